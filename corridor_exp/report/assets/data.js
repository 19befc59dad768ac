// What the page knows of the runs, and helpers. What the runs hold enters the page as text, never as markup.

const byId = (id) => document.getElementById(id);
const { keys, results, runs } = JSON.parse(byId("data").textContent);
const SPELLED = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const numberOf = (value) => (value in SPELLED ? SPELLED[value] : value === null || value === "" ? NaN : Number(value));

// A column: a key in which the runs differ, or a result. A missing value is undefined.
const KEYS = keys.map((key) => ({ key, name: key, isKey: true, of: (run) => run.config?.[key] }));
const RESULTS = Object.entries(results).map(([key, name]) => ({ key, name, of: (run) => run.results[key] }));
const COLUMNS = [...KEYS, ...RESULTS];
const FEW_KEYS = KEYS.filter((_, i) => !document.querySelectorAll("#table thead th")[i + 2].classList.contains("more"));
const says = (column, run) => ![undefined, "None"].includes(column.of(run));
const nameOf = (run) => [run.path, ...FEW_KEYS.filter((c) => says(c, run)).map((c) => `${c.name}=${c.of(run)}`)].join(" ");

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

function shortly(value, digits = 5) {
  const size = Math.abs(value);
  const text = size && (size >= 1e5 || size < 1e-3) ? value.toExponential(Math.min(3, digits - 1)) : value.toPrecision(digits);
  return text.replace(/(\.\d*?)0+(e|$)/, "$1$2").replace(/\.(e|$)/, "$1");
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// Numbers by size, other texts after them by the alphabet.
function compare(a, b) {
  const [x, y] = [numberOf(a ?? ""), numberOf(b ?? "")];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y || 0;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

function inOrder(a, b, descending) {
  const [x, y] = [a, b].map((value) => Number.isNaN(numberOf(value ?? "")));
  const isText = [a, b].some((value) => typeof value === "string" && value && !(value in SPELLED) && Number.isNaN(Number(value)));
  if (x !== y && !isText) return x - y; // what has no number comes last, whatever the direction
  return compare(a, b) * (descending ? -1 : 1);
}
