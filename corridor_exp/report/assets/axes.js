// Places and ticks of an axis: linear or logarithmic numbers, or categories.

function axis(values, log, start, end, range) {
  let [low, high] = range ?? extent(values);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  const [f, inverse] = log ? [Math.log10, (value) => 10 ** value] : [(value) => value, (value) => value];
  return {
    low,
    high,
    place: (value) => start + ((f(value) - f(low)) / (f(high) - f(low))) * (end - start),
    value: (place) => inverse(f(low) + ((place - start) / (end - start)) * (f(high) - f(low))),
    ticks: (log ? logTicks : linearTicks)(low, high, Math.max(2, Math.abs(end - start) / 80)),
  };
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return [low, high];
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
  const inside = ticks.filter((tick) => tick >= low && tick <= high);
  return inside.length > 1 ? inside : linearTicks(low, high, count);
}
