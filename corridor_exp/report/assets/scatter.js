// One column against another: a point a run. What is no number is a category, with a place of its own.

// Every column, and the last value of every other metric.
const AXES = [
  ...COLUMNS,
  ...[...new Set(runs.flatMap((run) => Object.keys(run.results)))]
    .filter((key) => !(key in results))
    .map((key) => ({ key, name: `last ${key}`, of: (run) => run.results[key] })),
];

function categories(column, members) {
  const values = members.map(column.of).filter((value) => value !== undefined && value !== null && value !== "None");
  if (values.every((value) => !Number.isNaN(numberOf(value)) || value in SPELLED)) return null;
  return [...new Set(values.map(String))].toSorted(compare);
}

function scatterOf(shown, x, y) {
  const place = (column, run, names) => {
    const value = column.of(run);
    if (!names || value === undefined) return numberOf(value ?? "");
    const at = names.indexOf(String(value));
    return at < 0 ? NaN : at;
  };
  const members = shown.flatMap((group) => group.members);
  const [xNames, yNames] = [categories(x, members), categories(y, members)];
  const dotOf = (run) => {
    const point = { x: place(x, run, xNames), y: place(y, run, yNames) };
    const says = (names, value) => names?.[value] ?? shortly(value);
    const said = `${y.name} ${says(yNames, point.y)} at ${x.name} ${says(xNames, point.x)}`;
    return { label: nameOf(run), isDot: true, all: [{ ...point, said }] };
  };
  const families = shown.map((group) => ({ label: group.label, curves: group.members.map(dotOf) }));
  return { families, xNames, yNames };
}
