// Sorting and filters of the table, curves, differences. What the runs hold enters the page as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const { runs } = JSON.parse(byId("data").textContent);
const SPELLED = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const numberOf = (value) => (value in SPELLED ? SPELLED[value] : value === null || value === "" ? NaN : Number(value));

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

function shortly(value) {
  const size = Math.abs(value);
  const text = size && (size >= 1e5 || size < 1e-3) ? value.toExponential(3) : value.toPrecision(5);
  return text.replace(/(\.\d*?)0+(e|$)/, "$1$2").replace(/\.(e|$)/, "$1");
}

// ---------------------------------------------------------------- the table

const rows = [...document.querySelectorAll("#table tbody tr")];
const tickOf = (row) => row.querySelector("input");
const shown = () => rows.filter((row) => !row.hidden);
// In the order of the folder, however the table is sorted, so that sorting changes no colour.
const drawn = () => shown().filter((row) => tickOf(row).checked).map((row) => runs[row.dataset.run]);

function compare(a, b) {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x === y ? 0 : x < y ? -1 : 1;
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1; // what is no number comes last
  return a.localeCompare(b, "en", { numeric: true });
}

function sortBy(header) {
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const text = (row) => row.cells[header.cellIndex].firstChild.textContent;
  const sorted = rows.toSorted((a, b) => compare(text(a), text(b)) * (descending ? -1 : 1));
  byId("table").tBodies[0].append(...sorted);
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  const status = byId("status").value;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = (status && row.dataset.status !== status) || !words.every((word) => text.includes(word));
  }
  byId("shown").textContent = `${shown().length} of ${rows.length} shown`;
  ticked();
}

function ticked() {
  const ticks = shown().map((row) => tickOf(row).checked);
  byId("tick-all").checked = ticks.length > 0 && ticks.every(Boolean);
  byId("tick-all").indeterminate = ticks.includes(true) && ticks.includes(false);
  draw();
}

// ---------------------------------------------------------------- curves

const HEIGHT = 400;
const MARGIN = { left: 62, right: 14, top: 28, bottom: 44 };
const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
const plot = byId("plot");
let curves = []; // on the plot now: {run, style, path, all: [{step, x, y}], points: those that have a place}
let cursor = null; // {curve, at}: the point that is read out

const styleOf = (number) => ({
  class: "line",
  stroke: `var(--line-${number % 8})`,
  "stroke-dasharray": DASHES[Math.floor(number / 8) % DASHES.length],
});

// What x is at a step; anything but steps is interpolated between the steps that the page has it of.
function xOf(run, along) {
  if (along === "step") return (step) => step;
  let i = 0;
  if (along === "epoch") {
    const ends = run.epoch_ends;
    return (step) => {
      while (i + 2 < ends.length && ends[i + 1][0] <= step) i++;
      if (ends.length < 2) return NaN;
      const [[start, before], [stop, done]] = ends.slice(i, i + 2);
      return before + ((step + 1 - start) * (done - before)) / (stop - start);
    };
  }
  const [steps, values] = along === "time" ? run.clock : valuesOf(run, along);
  return (step) => {
    while (i + 2 < steps.length && steps[i + 1] <= step) i++;
    if (steps.length < 2 || step <= steps[i]) return values[i] ?? NaN;
    return values[i] + ((values[i + 1] - values[i]) * (step - steps[i])) / (steps[i + 1] - steps[i]);
  };
}

function valuesOf(run, metric) {
  if (!run.curves[metric]) return [[], []];
  const [which, values] = run.curves[metric];
  return [run.steps[which], values];
}

function pointsOf(run, metric, along) {
  const [steps, values] = valuesOf(run, metric);
  const x = xOf(run, along);
  return steps.map((step, i) => ({ step, x: x(step), y: numberOf(values[i]) }));
}

function axis(values, log, start, end) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const f = log ? Math.log10 : (value) => value;
  const place = (value) => start + ((f(value) - f(low)) / (f(high) - f(low))) * (end - start);
  const ticks = (log ? logTicks : linearTicks)(low, high, Math.max(2, Math.abs(end - start) / 80));
  return { place, ticks };
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function logTicks(low, high, count) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const stride = Math.ceil((last - first) / count);
  const factors = last - first <= 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = first; power <= last; power += stride) for (const f of factors) ticks.push(f * 10 ** power);
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function draw() {
  if (!plot) return;
  const metric = byId("metric").value;
  const along = byId("along");
  const [logX, logY] = [byId("log-x").checked, byId("log-y").checked];
  const width = Math.max(280, plot.clientWidth);
  cursor = null;
  plot.replaceChildren(svg("title", { id: "plot-name" }, `${metric} against ${along.selectedOptions[0].text}`));
  plot.classList.remove("dimmed");
  plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const onX = (point) => Number.isFinite(point.x) && !(logX && point.x <= 0);
  const onY = (point) => Number.isFinite(point.y) && !(logY && point.y <= 0);
  const found = drawn().map((run) => ({ run, all: pointsOf(run, metric, along.value) }));
  for (const curve of found) curve.points = curve.all.filter((point) => onX(point) && onY(point));
  curves = found.filter((curve) => curve.points.length);
  curves.forEach((curve, number) => (curve.style = styleOf(number)));
  const visible = curves.flatMap((curve) => curve.points);
  byId("note").textContent = notes(found.flatMap((curve) => curve.all), logX, logY);
  byId("readout").textContent = visible.length ? "" : "Nothing to draw: no ticked and shown run has a number for it.";
  legend();
  if (!visible.length) return;

  const bottom = HEIGHT - MARGIN.bottom;
  const x = axis(visible.map((point) => point.x), logX, MARGIN.left, width - MARGIN.right);
  const y = axis(visible.map((point) => point.y), logY, bottom, MARGIN.top);
  for (const tick of x.ticks) {
    const left = x.place(tick);
    plot.append(svg("line", { class: "grid", x1: left, x2: left, y1: MARGIN.top, y2: bottom }));
    plot.append(svg("text", { x: left, y: bottom + 16, "text-anchor": "middle" }, shortly(tick)));
  }
  for (const tick of y.ticks) {
    const top = y.place(tick);
    plot.append(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: top, y2: top }));
    plot.append(svg("text", { x: MARGIN.left - 6, y: top + 4, "text-anchor": "end" }, shortly(tick)));
  }
  const middle = (MARGIN.left + width - MARGIN.right) / 2;
  plot.append(svg("text", { x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, along.selectedOptions[0].text));
  plot.append(svg("text", { x: 4, y: 14 }, metric));

  for (const curve of curves) {
    let d = "";
    let pen = "M";
    for (const point of curve.all) {
      if (onX(point) && onY(point)) {
        [point.left, point.top] = [x.place(point.x), y.place(point.y)];
        // "h0" with round caps makes a point without neighbours a dot.
        d += `${pen}${point.left.toFixed(1)},${point.top.toFixed(1)}${pen === "M" ? "h0" : ""}`;
        pen = "L";
      } else pen = "M";
    }
    curve.path = svg("path", { ...curve.style, d });
    plot.append(curve.path);
  }
  plot.append(svg("circle", { id: "dot", r: 5, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" }));
}

function notes(points, logX, logY) {
  const count = (what, n) => (n ? [`${n} ${n === 1 ? "point" : "points"} ${what}`] : []);
  const said = [
    ...count("not finite, a gap in its line", points.filter((p) => !Number.isFinite(p.y)).length),
    ...count("not above 0, left out of the logarithmic y axis", logY ? points.filter((p) => p.y <= 0 && p.y > -Infinity).length : 0),
    ...count("not above 0, left out of the logarithmic x axis", logX ? points.filter((p) => p.x <= 0).length : 0),
    ...count("without a place on the x axis, whose run does not tell it", points.filter((p) => Number.isNaN(p.x)).length),
  ];
  return said.length ? `${said.join("; ")}.` : "";
}

const KEYS = [...document.querySelectorAll("#table thead th:not(.number):not(.more)")].slice(2).map((th) => th.textContent);
const nameOf = (run) => [run.path, ...KEYS.filter((key) => key in (run.config ?? {})).map((key) => `${key}=${run.config[key]}`)].join(" ");

function legend() {
  byId("legend").replaceChildren(
    ...curves.map((curve) => {
      const swatch = svg("svg", { viewBox: "0 0 36 10", "aria-hidden": "true" });
      swatch.append(svg("path", { ...curve.style, d: "M2,5H34" }));
      const button = html("button", { type: "button" }, swatch, html("span", {}, nameOf(curve.run)));
      const last = () => read(curve, curve.points.length - 1);
      button.addEventListener("focus", last);
      button.addEventListener("pointerenter", last);
      button.addEventListener("blur", unread);
      button.addEventListener("pointerleave", unread);
      return html("li", {}, button);
    }),
  );
}

function read(curve, at) {
  cursor = { curve, at };
  const point = curve.points[at];
  const dot = byId("dot");
  for (const other of curves) other.path.classList.toggle("bright", other === curve);
  plot.classList.add("dimmed");
  for (const [key, value] of Object.entries({ cx: point.left, cy: point.top, visibility: "visible" })) dot.setAttribute(key, value);
  const x = byId("along").value === "step" ? "" : `, ${shortly(point.x)} ${byId("along").selectedOptions[0].text}`;
  byId("readout").textContent = `${byId("metric").value} ${shortly(point.y)} at step ${point.step}${x}: ${nameOf(curve.run)}`;
}

function unread() {
  cursor = null;
  plot.classList.remove("dimmed");
  byId("dot")?.setAttribute("visibility", "hidden");
  byId("readout").textContent = "";
}

function nearest(left, top, among = curves) {
  let best = { distance: Infinity };
  for (const curve of among)
    curve.points.forEach((point, at) => {
      const distance = Math.hypot(point.left - left, point.top - top);
      if (distance < best.distance) best = { curve, at, distance };
    });
  return best;
}

function point(event) {
  const frame = plot.getBoundingClientRect();
  const scale = plot.viewBox.baseVal.width / frame.width;
  const found = nearest((event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale);
  if (found.curve) read(found.curve, found.at);
}

function steer(event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!(event.key in moves) || !curves.length) return;
  event.preventDefault();
  if (!cursor) return read(curves[0], 0);
  const [other, along] = moves[event.key];
  if (!other) return read(cursor.curve, Math.max(0, Math.min(cursor.curve.points.length - 1, cursor.at + along)));
  const curve = curves[(curves.indexOf(cursor.curve) + other + curves.length) % curves.length];
  const here = cursor.curve.points[cursor.at];
  read(curve, nearest(here.left, here.top, [curve]).at);
}

// Logarithmic where the numbers are positive and span more than a factor of 50: the user may say otherwise.
function chooseAxis() {
  const values = drawn().flatMap((run) => pointsOf(run, byId("metric").value, "step").map((p) => p.y)).filter(Number.isFinite);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  byId("log-y").checked = low > 0 && high / low > 50;
  draw();
}

// ---------------------------------------------------------------- differences

function difference() {
  const [a, b] = ["a", "b"].map((id) => runs[byId(id).value].config);
  const say = (...items) => byId("difference").replaceChildren(...items.map((parts) => html("li", {}, ...parts)));
  if (!a || !b) return say(["One of them has no configuration that can be read."]);
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => a[key] !== b[key]);
  if (!keys.length) return say(["No key differs."]);
  say(...keys.map((key) => [html("code", {}, key), `: ${a[key] ?? "(absent)"} → ${b[key] ?? "(absent)"}`]));
}

// Begin with two runs that do differ, where there are such.
function chooseTwo() {
  const first = Math.max(0, runs.findIndex((run) => run.config));
  const text = (run) => JSON.stringify(run.config);
  const second = runs.findIndex((run) => run.config && text(run) !== text(runs[first]));
  byId("a").value = first;
  byId("b").value = second < 0 ? first : second;
  difference();
}

// ---------------------------------------------------------------- wiring

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("#table th button"))
  button.addEventListener("click", () => sortBy(button.parentElement));
for (const row of rows) tickOf(row).addEventListener("change", ticked);
byId("tick-all").addEventListener("change", () => {
  for (const row of shown()) tickOf(row).checked = byId("tick-all").checked;
  ticked();
});
byId("filter").addEventListener("input", filter);
byId("status").addEventListener("change", filter);
byId("all-keys")?.addEventListener("change", (event) => byId("table").classList.toggle("all-keys", event.target.checked));
for (const id of ["a", "b"]) byId(id).addEventListener("change", difference);
if (plot) {
  byId("metric").addEventListener("change", chooseAxis);
  for (const id of ["along", "log-x", "log-y"]) byId(id).addEventListener("change", draw);
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", unread);
  plot.addEventListener("blur", unread);
  plot.addEventListener("keydown", steer);
  new ResizeObserver(() => plot.clientWidth !== plot.viewBox.baseVal.width && draw()).observe(plot);
}
filter();
if (plot) chooseAxis();
chooseTwo();
