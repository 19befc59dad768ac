// The table: rows of runs and of groups, sorted and filtered; what is ticked in it is drawn. Also as CSV.

const BEST = 8; // so many are drawn at first: there are as many colours
const body = byId("table").tBodies[0];
[...body.rows].forEach((row, i) => Object.assign(runs[i], { row, tick: row.querySelector("input") }));
const headers = [...document.querySelectorAll("#table thead th")]; // run, status, and the columns
const opened = new Set(); // labels of the groups whose runs are listed
let order = { column: -2, descending: false }; // a number of COLUMNS; -2: the run, -1: the status
let groups = []; // of the runs that pass the filter, in the order of the folder
let listed = []; // the same as the table has them

const isGrouped = () => byId("group").value !== EACH;

function valueOf(group) {
  if (order.column === -1) return statusOf(group);
  if (order.column === -2) return isGrouped() ? group.label : group.members[0].path;
  const { value, text } = summary(group, COLUMNS[order.column]);
  return value ?? text;
}

function render() {
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  const status = byId("status").value;
  const passing = runs.filter((run) => {
    const text = run.row.textContent.toLowerCase();
    return (!status || run.status === status) && words.every((word) => text.includes(word));
  });
  groups = groupsOf(passing, byId("group").value);
  const sorted = (items) => items.toSorted((a, b) => inOrder(valueOf(a), valueOf(b), order.descending));
  listed = sorted(groups);
  body.replaceChildren(
    ...listed.flatMap((group) => {
      const members = sorted(group.members.map((run) => ({ label: run.path, members: [run] }))).map((one) => one.members[0].row);
      return isGrouped() ? [rowOf(group), ...(opened.has(group.label) ? members : [])] : members;
    }),
  );
  const inGroups = isGrouped() ? `, in ${plural(groups.length, "group")}` : "";
  byId("shown").textContent = `${passing.length} of ${runs.length} shown${inGroups}`;
  ticked();
}

function rowOf(group) {
  const tick = html("input", { type: "checkbox", ariaLabel: `Draw ${group.label}` });
  tick.addEventListener("change", () => {
    for (const run of group.members) run.tick.checked = tick.checked;
    ticked();
  });
  group.tick = tick;
  const open = html("button", { type: "button", className: "open", ariaExpanded: opened.has(group.label) }, plural(group.members.length, "run"));
  open.addEventListener("click", () => {
    if (!opened.delete(group.label)) opened.add(group.label);
    render();
    [...body.querySelectorAll(".open")].find((button) => button.title === group.label)?.focus();
  });
  open.title = group.label;
  const row = html("tr", { className: "group" }, html("td", {}, tick), html("th", { scope: "row" }, open));
  row.dataset.status = new Set(group.members.map((run) => run.status)).size === 1 ? group.members[0].status : "several";
  row.append(html("td", {}, html("span", { className: "status" }, statusOf(group))));
  for (const [i, column] of COLUMNS.entries()) row.append(cell(summary(group, column), group, headers[i + 2].className));
  return row;
}

function cell({ value, text, low, high, count }, group, className) {
  const shown = typeof value === "number" && !Number.isInteger(value) ? shortly(value, 4) : (text ?? value ?? "–");
  const td = html("td", { className }, shown);
  const part = count < group.members.length ? `, ${count} of ${group.members.length} runs` : "";
  if (low < high || part) td.append(html("small", {}, `${shortly(low, 3)} to ${shortly(high, 3)}${part}`));
  return td;
}

function ticked() {
  for (const group of groups) if (group.tick) showTicks(group.tick, group.members);
  showTicks(byId("tick-all"), groups.flatMap((group) => group.members));
  draw();
}

function showTicks(tick, members) {
  const ticks = members.map((run) => run.tick.checked);
  tick.checked = ticks.length > 0 && ticks.every(Boolean);
  tick.indeterminate = ticks.includes(true) && ticks.includes(false);
}

function tickFirst() {
  for (const run of runs) run.tick.checked = false;
  for (const group of listed.slice(0, BEST)) for (const run of group.members) run.tick.checked = true;
  ticked();
}

// What is drawn, in the order of the folder, however the table is sorted, so that sorting changes no colour.
function drawn() {
  const chosen = groups.map((group) => ({ ...group, members: group.members.filter((run) => run.tick.checked) }));
  return named(chosen.filter((group) => group.members.length), byId("group").value);
}

function sortBy(header) {
  const column = headers.indexOf(header) - 2;
  order = { column, descending: order.column === column && !order.descending };
  for (const other of headers) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
  render();
}

function csv() {
  const spread = (name) => [name, `${name} lowest`, `${name} highest`];
  const head = isGrouped()
    ? ["group", "runs", "status", ...KEYS.map((c) => c.name), ...RESULTS.flatMap((c) => spread(c.name))]
    : ["run", "status", ...COLUMNS.map((c) => c.name)];
  const lines = listed.map((group) => {
    const said = COLUMNS.map((column) => ({ column, ...summary(group, column) }));
    const values = said.flatMap(({ column, value, text, low, high }) =>
      isGrouped() && !column.isKey ? [value, low ?? value, high ?? value] : [value ?? text],
    );
    return isGrouped() ? [group.label, group.members.length, statusOf(group), ...values] : [group.members[0].path, statusOf(group), ...values];
  });
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return [head, ...lines].map((line) => line.map((value) => quoted(String(value ?? ""))).join(",") + "\n").join("");
}

function saveCsv() {
  const url = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  html("a", { href: url, download: "runs.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// The command is selected too, so that a browser that refuses the clipboard leaves one key to press.
function copyCommand(event) {
  const button = event.target.closest(".copy");
  if (!button) return;
  const code = button.previousElementSibling;
  getSelection().selectAllChildren(code);
  navigator.clipboard?.writeText(code.textContent).then(() => (button.textContent = "copied"), () => (button.textContent = "selected"));
}
