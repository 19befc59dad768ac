// The plot: lines or dots on two axes, a legend, a point that is read out, a range that is zoomed into.

const HEIGHT = 400;
const MARGIN = { left: 62, right: 14, top: 28, bottom: 44 };
const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
const plot = byId("plot");
let curves = []; // on the plot now: {label, style, shapes, all: [{step, x, y}], points: those that have a place}
let cursor = null; // {curve, at}: the point that is read out
let zoom = null; // {x: [low, high], y: [low, high]}; null: the whole
let scales = null; // {x, y}: the axes on the plot now

const isScatter = () => byId("view").value === "scatter";
const styleOf = (number) => ({ stroke: `var(--line-${number % 8})`, "stroke-dasharray": DASHES[Math.floor(number / 8) % DASHES.length] });

// What to draw: groups with the curves of each, and what stands at the axes.
function wanted() {
  if (isScatter()) {
    const [x, y] = ["scatter-x", "scatter-y"].map((id) => AXES[byId(id).value]);
    return { ...scatterOf(drawn(), x, y), xName: x.name, yName: y.name };
  }
  const [metric, along] = [byId("metric").value, byId("along")];
  const width = Number(byId("smooth").value);
  const families = drawn().map((group) => ({ label: group.label, curves: curvesOf(group, metric, along.value, width) }));
  return { families, xName: along.selectedOptions[0].text, yName: metric };
}

function draw() {
  if (!plot) return;
  const { families, xName, yName, xNames, yNames } = wanted();
  const [logX, logY] = [byId("log-x").checked && !xNames, byId("log-y").checked && !yNames];
  const width = Math.max(280, plot.clientWidth);
  cursor = scales = null;
  plot.replaceChildren(svg("title", { id: "plot-name" }, `${yName} against ${xName}`));
  plot.classList.remove("dimmed");
  plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  byId("whole").hidden = !zoom;
  const has = (value, log) => Number.isFinite(value) && !(log && value <= 0);
  const isPlaced = (point) => has(point.x, logX) && has(point.y, logY);
  const inside = ({ x, y }) => !zoom || (x >= zoom.x[0] && x <= zoom.x[1] && y >= zoom.y[0] && y <= zoom.y[1]);
  const found = families.filter((family) => family.curves.some((curve) => curve.all.some(isPlaced)));
  found.forEach((family, number) => family.curves.forEach((curve) => (curve.style = styleOf(number))));
  curves = found.flatMap((family) => family.curves).filter((curve) => curve.all.some(isPlaced));
  for (const curve of curves) {
    const placed = curve.all.filter(isPlaced);
    Object.assign(curve, { isPlaced, placed, points: placed.filter(inside) });
  }
  byId("note").textContent = notes(families.flatMap((family) => family.curves).flatMap((curve) => curve.all), logX, logY);
  byId("readout").textContent = curves.length ? "" : "Nothing to draw: no ticked and shown run has a number for it.";
  legend(found);
  if (!curves.length) return;

  const every = curves.flatMap((curve) => curve.placed);
  const lows = logY ? [] : every.flatMap((point) => [point.low, point.high]).filter(Number.isFinite);
  const bottom = HEIGHT - MARGIN.bottom;
  scales = {
    x: axis(every.map((point) => point.x), logX, MARGIN.left, width - MARGIN.right, zoom?.x),
    y: axis([...every.map((point) => point.y), ...lows], logY, bottom, MARGIN.top, zoom?.y),
  };
  grid(xNames, yNames, width, bottom);
  plot.append(svg("text", { x: (MARGIN.left + width - MARGIN.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xName));
  plot.append(svg("text", { x: 4, y: 14 }, yName));
  const frame = { x: MARGIN.left - 4, y: MARGIN.top - 4, width: width - MARGIN.left - MARGIN.right + 8, height: bottom - MARGIN.top + 8 };
  plot.append(svg("clipPath", { id: "inside" }, svg("rect", frame)));
  const inFrame = svg("g", { "clip-path": "url(#inside)" });
  for (const curve of curves) inFrame.append(...(curve.shapes = shapesOf(curve)));
  plot.append(inFrame);
  plot.append(svg("circle", { id: "dot", r: 5, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" }));
  plot.append(svg("rect", { id: "frame", visibility: "hidden" }));
}

function grid(xNames, yNames, width, bottom) {
  const whole = (ticks, names) => (names ? ticks.filter((tick) => tick in names) : ticks);
  for (const tick of whole(scales.x.ticks, xNames)) {
    const left = scales.x.place(tick);
    plot.append(svg("line", { class: "grid", x1: left, x2: left, y1: MARGIN.top, y2: bottom }));
    plot.append(svg("text", { x: left, y: bottom + 16, "text-anchor": "middle" }, xNames?.[tick] ?? shortly(tick)));
  }
  for (const tick of whole(scales.y.ticks, yNames)) {
    const top = scales.y.place(tick);
    plot.append(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: top, y2: top }));
    const inside = yNames ? { x: MARGIN.left + 4, "text-anchor": "start" } : { x: MARGIN.left - 6, "text-anchor": "end" };
    plot.append(svg("text", { ...inside, y: top + 4 }, yNames?.[tick] ?? shortly(tick)));
  }
}

function shapesOf(curve) {
  let d = "";
  let pen = "M";
  for (const point of curve.all) {
    if (curve.isPlaced(point)) {
      [point.left, point.top] = [scales.x.place(point.x), scales.y.place(point.y)];
      // "h0" with round caps makes a point without neighbours a dot.
      d += `${pen}${point.left.toFixed(1)},${point.top.toFixed(1)}${pen === "M" ? "h0" : ""}`;
      pen = "L";
    } else pen = "M";
  }
  const line = svg("path", { ...curve.style, class: curve.isDot ? "line dots" : "line", d });
  const banded = curve.placed.filter((point) => point.low < point.high);
  if (!banded.length) return [line];
  const floor = HEIGHT - MARGIN.bottom;
  const at = (point, value) => `${point.left.toFixed(1)},${Math.min(floor, scales.y.place(value) || floor).toFixed(1)}`;
  const around = [...banded.map((p) => at(p, p.high)), ...banded.toReversed().map((p) => at(p, p.low))];
  return [svg("path", { class: "band", fill: curve.style.stroke, d: `M${around.join("L")}Z` }), line];
}

function notes(points, logX, logY) {
  const count = (what, n) => (n ? [`${plural(n, "point")} ${what}`] : []);
  const said = [
    ...count("not finite, a gap in its line", points.filter((p) => !Number.isFinite(p.y)).length),
    ...count("not above 0, left out of the logarithmic y axis", logY ? points.filter((p) => p.y <= 0 && p.y > -Infinity).length : 0),
    ...count("not above 0, left out of the logarithmic x axis", logX ? points.filter((p) => p.x <= 0).length : 0),
    ...count(isScatter() ? "without a number for x" : "without a place on the x axis, whose run does not tell it", points.filter((p) => Number.isNaN(p.x)).length),
  ];
  return said.length ? `${said.join("; ")}.` : "";
}

function legend(families) {
  byId("legend").replaceChildren(
    ...families.map((family) => {
      const own = family.curves.filter((curve) => curves.includes(curve));
      const swatch = svg("svg", { viewBox: "0 0 36 10", "aria-hidden": "true" });
      swatch.append(svg("path", { ...own[0].style, class: "line", d: "M2,5H34" }));
      const button = html("button", { type: "button" }, swatch, html("span", {}, family.label));
      const last = () => {
        const first = own.find((curve) => curve.points.length);
        if (first) read(first, first.points.length - 1, own);
      };
      button.addEventListener("focus", last);
      button.addEventListener("pointerenter", last);
      button.addEventListener("blur", unread);
      button.addEventListener("pointerleave", unread);
      return html("li", {}, button);
    }),
  );
}

// ---------------------------------------------------------------- reading out

function read(curve, at, bright = [curve]) {
  cursor = { curve, at };
  const point = curve.points[at];
  const dot = byId("dot");
  for (const other of curves) for (const shape of other.shapes) shape.classList.toggle("bright", bright.includes(other));
  plot.classList.add("dimmed");
  for (const [key, value] of Object.entries({ cx: point.left, cy: point.top, visibility: "visible" })) dot.setAttribute(key, value);
  byId("readout").textContent = `${point.said ?? sayPoint(point)}: ${curve.label}`;
}

function sayPoint(point) {
  const along = byId("along");
  const x = along.value === "step" ? "" : `, ${shortly(point.x)} ${along.selectedOptions[0].text}`;
  const range = point.low < point.high ? ` (${shortly(point.low)} to ${shortly(point.high)})` : "";
  return `${byId("metric").value} ${shortly(point.y)}${range} at step ${point.step}${x}`;
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

function steer(event) {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (event.key === "Escape") return zoomTo(null);
  if (event.key === "+" || event.key === "-") return zoomBy(event.key === "+" ? 0.5 : 2);
  const visible = curves.filter((curve) => curve.points.length);
  if (!(event.key in moves) || !visible.length) return;
  event.preventDefault();
  if (!cursor) return read(visible[0], 0);
  const [other, along] = moves[event.key];
  if (!other) return read(cursor.curve, Math.max(0, Math.min(cursor.curve.points.length - 1, cursor.at + along)));
  const curve = visible[(visible.indexOf(cursor.curve) + other + visible.length) % visible.length];
  const here = cursor.curve.points[cursor.at];
  read(curve, nearest(here.left, here.top, [curve]).at);
}

// ---------------------------------------------------------------- zooming

let corner = null; // where a drag began

function placeOf(event) {
  const frame = plot.getBoundingClientRect();
  const scale = plot.viewBox.baseVal.width / frame.width;
  return [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
}

function press(event) {
  if (event.pointerType !== "touch" && scales) corner = placeOf(event);
  move(event);
}

function move(event) {
  const [left, top] = placeOf(event);
  if (!corner || Math.hypot(left - corner[0], top - corner[1]) < 8) {
    const found = nearest(left, top);
    if (found.curve) read(found.curve, found.at);
    return;
  }
  const box = { x: Math.min(left, corner[0]), y: Math.min(top, corner[1]), width: Math.abs(left - corner[0]), height: Math.abs(top - corner[1]) };
  for (const [key, value] of Object.entries({ ...box, visibility: "visible" })) byId("frame").setAttribute(key, value);
}

function release(event) {
  if (!corner) return;
  const [[left, top], [startLeft, startTop]] = [placeOf(event), corner];
  corner = null;
  if (Math.hypot(left - startLeft, top - startTop) < 8) return;
  zoomTo({ x: [left, startLeft].map(scales.x.value).toSorted((a, b) => a - b), y: [top, startTop].map(scales.y.value).toSorted((a, b) => a - b) });
}

function zoomTo(range) {
  zoom = range;
  draw();
}

// By the keyboard: about the point that is read out, or the middle.
function zoomBy(factor) {
  if (!scales) return;
  const here = cursor?.curve.points[cursor.at];
  const range = (scale, place) => {
    const ends = [scale.low, scale.high].map(scale.place);
    const middle = place ?? (ends[0] + ends[1]) / 2;
    return ends.map((end) => scale.value(middle + (end - middle) * factor)).toSorted((a, b) => a - b);
  };
  zoomTo({ x: range(scales.x, here?.left), y: range(scales.y, here?.top) });
}

// Logarithmic where the numbers are positive and span more than a factor of 50: the user may say otherwise.
function chooseAxes() {
  const span = (values) => {
    const [low, high] = extent(values.filter(Number.isFinite));
    return low > 0 && high / low > 50;
  };
  const { families, xNames, yNames } = wanted();
  const points = families.flatMap((family) => family.curves).flatMap((curve) => curve.all);
  byId("log-y").checked = !yNames && span(points.map((point) => point.y));
  if (isScatter()) byId("log-x").checked = !xNames && span(points.map((point) => point.x));
  zoomTo(null);
}
