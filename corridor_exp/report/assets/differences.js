// The keys in which two runs differ.

function difference() {
  const [a, b] = ["a", "b"].map((id) => runs[byId(id).value].config);
  const say = (...items) => byId("difference").replaceChildren(...items.map((parts) => html("li", {}, ...parts)));
  if (!a || !b) return say(["One of them has no configuration that can be read."]);
  const different = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => a[key] !== b[key]);
  if (!different.length) return say(["No key differs."]);
  say(...different.map((key) => [html("code", {}, key), `: ${a[key] ?? "(absent)"} → ${b[key] ?? "(absent)"}`]));
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
