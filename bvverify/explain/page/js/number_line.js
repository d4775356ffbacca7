// The staircase around an accumulator: for each of two semantics a lane with its thresholds (where the output steps), the ties (where the
// exact value lies half-way between two integers) and the accumulator.

const LANE = 62;

// Steps of a staircase between two accumulators: [[threshold, level], ...], and the level at the left end.
function stepsBetween(form, lo, hi, left, right) {
  const at = (acc) => requantise(form, acc, lo, hi).out;
  const [first, last] = [at(left), at(right)];
  const steps = [];
  for (let level = first + 1n; level <= last && steps.length < 200; level += 1n) {
    let [below, reaches] = [left, right];
    while (reaches - below > 1n) {
      const middle = (below + reaches) >> 1n;
      if (at(middle) >= level) reaches = middle;
      else below = middle;
    }
    steps.push([reaches, level]);
  }
  return { first, steps };
}

// Half-way points k + 1/2 of the exact value between two accumulators, as accumulators (rationals).
function tiesBetween(form, left, right) {
  const exact = (acc) => requantise(form, acc, -(1n << 40n), 1n << 40n).exact;
  const [low, high] = [exact(left), exact(right)];
  const perUnit = realMultiplier(form);
  const found = [];
  if (perUnit[0] === 0n) return found;
  for (let k = floorOf(low); k <= floorOf(high) && found.length < 200; k += 1n) {
    const tie = plus(integer(k), [1n, 2n]);
    if (compare(tie, low) >= 0 && compare(tie, high) <= 0) found.push(plus(integer(left), over(plus(tie, negated(low)), perUnit)));
  }
  return found;
}

// `lanes`: [{ name, form, acc }]; `half`: how many accumulators to each side. All positions are relative to the first lane's.
function numberLine(lanes, lo, hi, half, width) {
  const centre = lanes[0].acc;
  const [left, right] = [centre - half, centre + half];
  const x = (acc) => 8 + ((Number((acc[0] - left * acc[1]) * 100000n / (acc[1] * 2n * half)) / 100000) * (width - 16));
  const place = (acc) => x(integer(acc));
  const drawn = lanes.map((lane, k) => drawLane(lane, k, { lo, hi, left, right, x, place, width }));
  const base = lanes.length * LANE + 8;
  const ticks = axisTicks(left, right, Math.max(2, Math.floor(width / 130)));
  const inside = lanes.filter(({ acc }) => acc >= left && acc <= right);
  return s("svg", { class: "line", width, height: base + 30, viewBox: `0 0 ${width} ${base + 30}`, role: "img", "aria-label": describeLanes(lanes, lo, hi) },
    drawn,
    s("path", { class: "axis", d: `M0 ${base}H${width}` }),
    ticks.map((t) => [s("path", { class: "axis", d: `M${place(t)} ${base}v5` }), s("text", { class: "tick", x: place(t), y: base + 19, "text-anchor": "middle" }, signed(t))]),
    inside.map(({ acc }) => s("path", { class: "here", d: `M${place(acc)} 4V${base}` })));
}

function drawLane({ name, form, acc }, k, { lo, hi, left, right, x, place, width }) {
  const top = k * LANE + 4;
  const { first, steps } = stepsBetween(form, lo, hi, left, right);
  const out = requantise(form, acc, lo, hi).out;
  const edges = [[left, first], ...steps];
  const blocks = edges.map(([from, level], i) => {
    const [x0, x1] = [i ? place(from) : 0, i + 1 < edges.length ? place(edges[i + 1][0]) : width];
    const label = signed(level) + (level === lo || level === hi ? " sat." : "");
    return [
      s("rect", { class: `level ${level === out ? "current" : level % 2n ? "odd" : "even"}`, x: x0, y: top + 16, width: Math.max(0, x1 - x0), height: 28 }),
      x1 - x0 > 9 * label.length && s("text", { class: "output", x: (Math.max(x0, 0) + Math.min(x1, width)) / 2, y: top + 35, "text-anchor": "middle" }, label),
    ];
  });
  return s("g", {},
    s("text", { class: "lane", x: 2, y: top + 9 }, name),
    blocks,
    steps.map(([t, level]) => s("path", { class: "threshold", d: `M${place(t)} ${top + 16}v28` }, s("title", {}, `output ${level} from accumulator ${t} on`))),
    tiesBetween(form, left, right).map((tie) =>
      s("path", { class: "tie", d: `M${x(tie)} ${top + 45}l4.5 7h-9z` }, s("title", {}, `a tie at accumulator ${significant(tie)}`))));
}

// Round numbers between two accumulators, at most `most` of them: multiples of 1, 2 or 5 times a power of ten.
function axisTicks(left, right, most) {
  const span = right - left;
  let step = 1n;
  for (let k = 0; span / step > BigInt(most); k++) step = [2n, 5n, 10n][k % 3] * 10n ** BigInt(Math.floor(k / 3));
  const ticks = [];
  for (let t = floorOf([left, step]) * step + step; t <= right; t += step) ticks.push(t);
  return ticks;
}

const describeLanes = (lanes, lo, hi) =>
  lanes.map(({ name, form, acc }) => {
    const { out } = requantise(form, acc, lo, hi);
    const next = threshold(form, lo, hi, out + 1n);
    return `${name}: output ${out} at accumulator ${acc}, from ${threshold(form, lo, hi, out)} to ${out < hi ? next - 1n : "the end"}`;
  }).join("; ");
