// Asks for the figures every two seconds and sets each in its place. What somebody reads or has marked stands still.
"use strict";

const INTERVAL = 2000;
let heard = Date.now();

function marked(node) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(node, true);
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
  const section = body.closest("section");
  if (section.matches(".held-still:hover") || marked(section)) return;
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  while (body.rows.length < rows.length) body.insertRow();
  const columns = body.closest("table").tHead.rows[0].cells;
  rows.forEach((row, index) => fill(body.rows[index], row, columns));
}

function show(view) {
  document.documentElement.dataset.status = view.texts.status;
  for (const [id, text] of Object.entries(view.texts)) put(document.getElementById(id), text);
  for (const [id, rows] of Object.entries(view.rows)) list(document.getElementById(id), rows);
}

async function renew() {
  if (document.hidden) return;
  const silence = document.getElementById("silence");
  try {
    const answer = await fetch("/status.json", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    show(await answer.json());
    heard = Date.now();
    delete document.documentElement.dataset.silent;
    put(silence, "");
  } catch {
    document.documentElement.dataset.silent = "";
    put(silence, `No answer for ${Math.round((Date.now() - heard) / 1000)} s: these figures are old.`);
  }
}

async function run() {
  await renew();
  setTimeout(run, INTERVAL);
}

document.addEventListener("visibilitychange", renew);
setTimeout(run, INTERVAL);
