// Which control does what, and how the page begins.

const when = (id, event, action) => byId(id)?.addEventListener(event, action);

function chooseView() {
  for (const part of document.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== byId("view").value;
  byId("log-x").checked = false;
  chooseAxes();
}

// The best first: by the last loss of an epoch, or by the first result that the runs have.
function begin() {
  const best = headers[COLUMNS.findIndex((column) => !column.isKey && runs.some((run) => column.of(run) !== undefined)) + 2];
  if (best) sortBy(best);
  else render();
  tickFirst();
  if (plot) chooseView();
}

for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
for (const header of headers) header.firstElementChild.addEventListener("click", () => sortBy(header));
for (const run of runs) run.tick.addEventListener("change", ticked);
when("tick-all", "change", () => {
  for (const run of groups.flatMap((group) => group.members)) run.tick.checked = byId("tick-all").checked;
  ticked();
});
for (const id of ["status", "group"]) when(id, "change", render);
when("filter", "input", render);
when("first", "click", tickFirst);
when("csv", "click", saveCsv);
when("all-keys", "change", (event) => byId("table").classList.toggle("all-keys", event.target.checked));
body.addEventListener("click", copyCommand);
for (const id of ["a", "b"]) when(id, "change", difference);
if (plot) {
  for (const [i, { name }] of AXES.entries()) for (const id of ["scatter-x", "scatter-y"]) byId(id).append(new Option(name, i));
  byId("scatter-y").value = Math.max(0, KEYS.length);
  when("view", "change", chooseView);
  for (const id of ["metric", "scatter-x", "scatter-y"]) when(id, "change", chooseAxes);
  for (const id of ["along", "log-x", "log-y", "smooth"]) when(id, "change", () => zoomTo(null));
  when("whole", "click", () => zoomTo(null));
  const actions = { pointermove: move, pointerdown: press, pointerup: release, pointerleave: unread, blur: unread, keydown: steer };
  for (const [event, action] of Object.entries(actions)) plot.addEventListener(event, action);
  plot.addEventListener("dblclick", () => zoomTo(null));
  new ResizeObserver(() => plot.clientWidth !== plot.viewBox.baseVal.width && draw()).observe(plot);
}
begin();
chooseTwo();
