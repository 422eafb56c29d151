// Keeps what the daemon tells of its past, and draws it with uPlot. Slots and columns are those of history.py.

const KEPT = { 1: 3600, 60: 10080 };
const past = new Map();

const count = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact" });

function duration(seconds) {
  if (seconds < 1) return `${+(seconds * 1000).toPrecision(3)} ms`;
  const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([length]) => seconds >= length);
  return `${+(seconds / length).toPrecision(3)} ${unit}`;
}

const whole = (_plot, _least, most) => [0, Math.max(most * 1.1, 1)];
const usual = [0.0005, 0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 864000];
const around = (_plot, least, most) => [
  usual.findLast((each) => each <= (least || 0.001)),
  usual.find((each) => each > Math.max(most, 0.1)),
];
const integers = [1, 2, 5].flatMap((each) => Array.from({ length: 9 }, (_, power) => each * 10 ** power)).sort((a, b) => a - b);

const PLOTS = [
  { id: "queue", say: count.format, tick: short.format, scale: { range: whole }, axis: { incrs: integers },
    lines: { ready: "ready", active: "being sent", deferred: "deferred", held: "held" } },
  { id: "rate", say: count.format, tick: short.format, scale: { range: whole },
    lines: { accepted: "accepted", delivered: "delivered", failed: "failed" } },
  { id: "delay", say: duration, tick: duration, scale: { distr: 3, range: around },
    axis: { splits: (_plot, _axis, least, most) => usual.filter((each) => each >= least && each <= most), filter: (_plot, ticks) => ticks },
    dots: true,
    lines: { p50: "half of them", p99: "99 of 100" } },
];

export function after(step) {
  const known = past.get(step);
  return known ? known.first + known.length - 1 : 0;
}

// What comes from another life of the daemon may leave a gap, or take the place of what was known.
export function absorb({ step, first, offset, columns }) {
  const length = columns.ready.length;
  let known = past.get(step);
  if (!known || (length && (first <= known.first || first > known.first + known.length + KEPT[step]))) {
    past.set(step, { first, offset, length, columns });
    return;
  }
  known.offset = offset;
  if (!length) return;
  const gap = Array(Math.max(first - known.first - known.length, 0)).fill(null);
  for (const [name, values] of Object.entries(columns)) {
    known.columns[name] = [...known.columns[name].slice(0, first - known.first), ...gap, ...values].slice(-KEPT[step]);
  }
  known.length = known.columns.ready.length;
  known.first = first + length - known.length;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
}

function clock(seconds, incr = 1) {
  const [day, time] = new Date(seconds * 1000).toISOString().split("T");
  return incr >= 86400 ? day.slice(5) : time.slice(0, incr >= 60 ? 5 : 8);
}

class Plot {
  constructor({ id, say, tick, scale, axis, lines, dots }) {
    Object.assign(this, { say, tick, scale, axis, lines, dots });
    this.figure = document.getElementById(`plot-${id}`);
    this.caption = this.figure.querySelector("figcaption").textContent;
    this.keys = document.createElement("ul");
    this.values = Object.entries(lines).map(([name, words]) => {
      const [item, value] = [document.createElement("li"), document.createElement("b")];
      item.className = name;
      item.append(`${words} `, value);
      this.keys.append(item);
      return value;
    });
    this.area = document.createElement("div");
    this.area.className = "area";
    this.area.tabIndex = 0;
    for (const [name, value] of Object.entries({ role: "slider", "aria-label": `${this.caption}: a moment`, "aria-valuemin": 0, "aria-valuenow": 0 })) {
      this.area.setAttribute(name, value);
    }
    this.none = document.createElement("p");
    this.none.className = "none";
    this.figure.append(this.keys, this.area, this.none);
    this.area.addEventListener("keydown", (event) => this.step(event));
    this.area.addEventListener("focus", () => this.speak());
    this.area.addEventListener("blur", () => this.plot.setCursor({ left: -10, top: -10 }));
    this.span = 600;
    this.end = Date.now() / 1000;
    this.make([[], ...this.values.map(() => [])]);
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.area);
  }

  size() {
    return { width: Math.max(this.area.clientWidth, 200), height: this.area.clientHeight };
  }

  make(data) {
    this.plot?.destroy();
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const series = Object.keys(this.lines).map((name) => this.dots
      ? { paths: () => null, points: { show: true, size: 4, width: 0, fill: colour(name), stroke: colour(name) } }
      : { stroke: colour(name), width: 1.5, dash: name === "accepted" ? [4, 3] : undefined, points: { show: false } });
    this.plot = new uPlot({
      ...this.size(),
      legend: { show: false },
      padding: [8, 24, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "all" }, points: { show: false } },
      scales: { x: { range: () => this.range() }, y: this.scale },
      axes: [
        { ...axis, size: 30, space: 80, values: (_plot, moments, _axis, _space, incr) => moments.map((each) => clock(each, incr)) },
        { ...axis, size: 58, ...this.axis, values: (_plot, values) => values.map(this.tick) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [() => this.read()] },
    }, data, this.area);
  }

  range() {
    return [this.end - this.span, this.end];
  }

  draw(known, span, step) {
    const length = Math.min(known.length, span / step);
    const begin = known.length - length;
    const moments = Array.from({ length }, (_, index) => (known.first + begin + index) * step + known.offset);
    this.end = length ? moments.at(-1) : Date.now() / 1000;
    this.span = Math.min(span, Math.max(length * step, 60 * step)); // a daemon that is young has plots that are short
    const data = [moments, ...Object.keys(this.lines).map((name) => known.columns[name].slice(begin))];
    this.plot.setData(data);
    const empty = !data.slice(1).some((column) => column.some((value) => value !== null));
    this.none.textContent = !empty ? "" : this.dots && length ? "No mail has finished in this time." : "Nothing is known of this time yet.";
    this.area.setAttribute("aria-valuemax", Math.max(length - 1, 0));
    this.read();
    if (document.activeElement !== this.area) this.speak();
  }

  // The moment that is pointed at, else the newest of which there is something to say.
  at() {
    const [moments, values] = this.plot.data;
    if (this.plot.cursor.idx != null) return this.plot.cursor.idx;
    const known = values.findLastIndex((value) => value !== null);
    return known < 0 ? moments.length - 1 : known;
  }

  read() {
    if (!this.plot) return;
    const [moments, ...columns] = this.plot.data;
    const index = this.at();
    this.values.forEach((element, line) => {
      const value = columns[line][index];
      element.textContent = value == null ? "–" : this.say(value);
    });
    const moment = this.plot.cursor.idx == null ? undefined : moments[index];
    document.getElementById("moment").textContent = moment ? `at ${clock(moment)} UTC` : "";
  }

  speak() {
    const index = this.at();
    const moment = this.plot.data[0][index];
    const said = Object.values(this.lines).map((words, line) => `${words} ${this.values[line].textContent}`).join(", ");
    this.area.setAttribute("aria-valuenow", Math.max(index, 0));
    this.area.setAttribute("aria-valuetext", moment ? `${clock(moment)} UTC: ${said}` : "nothing is known yet");
  }

  step(event) {
    const moments = this.plot.data[0];
    const last = moments.length - 1;
    const far = Math.max(Math.round(last / 20), 1);
    const index = this.at();
    const to = { ArrowLeft: index - 1, ArrowDown: index - 1, ArrowRight: index + 1, ArrowUp: index + 1,
      PageDown: index - far, PageUp: index + far, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    const place = this.plot.valToPos(moments[Math.min(Math.max(to, 0), last)], "x");
    this.plot.setCursor({ left: Math.max(place, 0), top: 0 });
    this.speak();
  }
}

const plots = PLOTS.map((each) => new Plot(each));

export function draw(span, step) {
  const known = past.get(step);
  if (known) plots.forEach((plot) => plot.draw(known, span, step));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  plots.forEach((plot) => plot.make(plot.plot.data));
});
