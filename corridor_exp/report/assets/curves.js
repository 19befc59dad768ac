// Curves of a metric: each run of few, of many their median and the range.

const FEW = 3;

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

// The median of `width` neighbours, which keeps a jump where a mean would blur it.
function smoothed(points, width) {
  if (width < 2) return points;
  const half = width >> 1;
  return points.map((point, i) => {
    const near = points.slice(Math.max(0, i - half), i + half + 1).map((p) => p.y).filter(Number.isFinite);
    return Number.isFinite(point.y) ? { ...point, y: median(near) } : point;
  });
}

function middleOf(members) {
  const at = new Map();
  for (const point of members.flat()) if (Number.isFinite(point.y)) at.set(point.step, [...(at.get(point.step) ?? []), point]);
  const steps = [...at.keys()].toSorted((a, b) => a - b);
  return steps.map((step) => {
    const ys = at.get(step).map((point) => point.y);
    const [low, high] = extent(ys);
    return { step, x: median(at.get(step).map((point) => point.x)), y: median(ys), low, high };
  });
}

function curvesOf(group, metric, along, width) {
  const of = (run) => smoothed(pointsOf(run, metric, along), width);
  if (group.members.length <= FEW) return group.members.map((run) => ({ label: nameOf(run), all: of(run) }));
  return [{ label: `${group.label}, median of ${group.members.length} runs`, all: middleOf(group.members.map(of)) }];
}
