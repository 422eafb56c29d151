// Asks for the figures every two seconds and sets each in its place. What somebody reads or has marked stands still.
import { absorb, after, draw } from "/plots.js";

const INTERVAL = 2000;
const PATIENCE = 5000;
const READING = 30000;

const root = document.documentElement;
const at = (id) => document.getElementById(id);
const plots = at("plots");
const failures = at("failures");
const version = at("version").textContent;
let touched = 0;
let drawn = "";

function marked(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
}

// Somebody looks at this very part: points at it, has the focus in it, or has scrolled into it.
function read(section) {
  if (marked(section)) return true;
  const { top, bottom } = section.getBoundingClientRect();
  const inside = section.matches(":hover, :focus-within") || (top < 0 && bottom > 0);
  return inside && Date.now() - touched < READING;
}

function put(node, text) {
  if (node.textContent !== text && !marked(node)) node.textContent = text;
}

function fill(row, [state, ...cells], columns) {
  row.dataset.state = state;
  while (row.cells.length > cells.length) row.lastChild.remove();
  while (row.cells.length < cells.length) row.insertCell();
  cells.forEach((text, index) => {
    const cell = row.cells[index];
    cell.colSpan = cells.length === 1 ? columns.length : 1;
    if (cells.length === 1) delete cell.dataset.column;
    else cell.dataset.column = columns[index].textContent;
    put(cell, text);
  });
}

function list(body, rows) {
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  while (body.rows.length < rows.length) body.insertRow();
  const columns = body.closest("table").tHead.rows[0].cells;
  rows.forEach((row, index) => fill(body.rows[index], row, columns));
}

function show({ texts, rows }) {
  if (texts.version !== version) location.reload();
  root.dataset.status = texts.status;
  document.title = `${texts.status} · ${texts.total} waiting · mailrelay`;
  for (const [id, text] of Object.entries(texts)) put(at(id), text);
  for (const [id, table] of Object.entries(rows)) {
    if (id !== "failures" || !read(failures.closest("section"))) list(at(id), table);
  }
  at("newer").hidden = same(failures, rows.failures);
}

function same(body, rows) {
  const shown = [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent));
  return JSON.stringify(shown) === JSON.stringify(rows.map(([, ...cells]) => cells));
}

class Silence extends Error {}

async function ask(path) {
  try {
    const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
    if (answer.ok) return await answer.json();
  } catch { /* as good as any other answer that is none */ }
  throw new Silence();
}

async function plot() {
  const { value, dataset } = document.querySelector("input[name=span]:checked");
  const step = Number(dataset.step);
  for (let more = true; more;) {
    const excerpt = await ask(`/history.json?step=${step}&after=${after(step)}`);
    absorb(excerpt);
    more = excerpt.more;
  }
  if (drawn === value && read(plots)) return;
  draw(Number(value), step);
  drawn = value;
}

function silent() {
  if (root.dataset.silent !== undefined) return;
  root.dataset.silent = "";
  document.title = "no answer · mailrelay";
  at("silence").textContent = `mailrelay does not answer. All that is shown here is from ${at("now").textContent}.`;
}

async function renew() {
  if (document.hidden) return;
  try {
    show(await ask("/status.json"));
    await plot();
    delete root.dataset.silent;
    at("silence").textContent = "";
  } catch (error) {
    if (!(error instanceof Silence)) throw error;
    silent();
  }
}

function run() {
  renew().finally(() => setTimeout(run, INTERVAL));
}

for (const kind of ["pointermove", "pointerdown", "scroll", "keydown"]) {
  addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
}
document.addEventListener("visibilitychange", renew);
plots.addEventListener("change", renew);
at("newer").addEventListener("click", (event) => {
  touched = 0;
  event.currentTarget.blur();
  renew();
});
plots.hidden = false;
run();
