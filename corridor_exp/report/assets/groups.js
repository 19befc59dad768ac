// Runs in groups: those that differ in nothing but the seed, or that share the value of a key.

const EACH = "each";
const BUT_SEED = "but-seed";

const keysOf = (by) => KEYS.filter((column) => (by === BUT_SEED ? column.key !== "seed" : column.key === by));

function groupsOf(members, by) {
  const chosen = keysOf(by);
  const groups = new Map();
  for (const run of members) {
    const label = by === EACH ? nameOf(run) : labelOf(run, chosen);
    const id = by === EACH ? run.path : label;
    if (!groups.has(id)) groups.set(id, { label, members: [] });
    groups.get(id).members.push(run);
  }
  return [...groups.values()];
}

// Groups with labels that say only in what these differ from each other.
function named(groups, by) {
  if (by === EACH) return groups;
  const differs = (column) => new Set(groups.map((group) => String(column.of(group.members[0])))).size > 1;
  const columns = keysOf(by).filter((column) => column.key === "optim.name" || differs(column));
  return groups.map((group) => ({ ...group, label: labelOf(group.members[0], columns) }));
}

function labelOf(run, columns) {
  const said = columns.filter((c) => says(c, run)).map((c) => (c.key === "optim.name" ? c.of(run) : `${c.name}=${c.of(run)}`));
  return said.join(" ") || (run.config ? "all" : "no configuration that can be read");
}

// What a column says of a group: its value, or of several numbers their mean, lowest and highest.
function summary(group, column) {
  const values = group.members.map(column.of).filter((value) => value !== undefined && value !== null);
  const different = [...new Set(values.map(String))];
  if (different.length < 2 && (column.isKey || values.length < 2)) return { value: values[0] };
  if (column.isKey) return { value: undefined, text: different.length < 4 ? different.join(", ") : `${different.length} values` };
  const numbers = values.map(numberOf).filter(Number.isFinite);
  if (!numbers.length) return { value: values[0] };
  const value = numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
  return { value, low: Math.min(...numbers), high: Math.max(...numbers), count: numbers.length };
}

function statusOf(group) {
  const counts = new Map();
  for (const { status } of group.members) counts.set(status, (counts.get(status) ?? 0) + 1);
  return counts.size === 1 ? group.members[0].status : [...counts].map(([status, n]) => `${n} ${status}`).join(", ");
}
