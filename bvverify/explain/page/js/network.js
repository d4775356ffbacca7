// A network from the page's data, and what its operations compute: the same formulas as bvverify.run, written anew.
//
// Values of a tensor are a flat array of Number, row-major. Numbers hold integers only, below 2^53 in magnitude (an accumulator stays
// below 2^48), where they are exact; whatever is rounded goes through arithmetic.js.

const ARRAY_TYPES = { int8: Int8Array, uint8: Uint8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array };

function decodeArray({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return Array.from(new ARRAY_TYPES[type](bytes.buffer), Number);
}

function parseRational(text) {
  const [n, d] = text.split("/");
  return [BigInt(n), BigInt(d ?? 1)];
}

function parseForm(data) {
  const form = { rule: data.rule, zeroPoint: BigInt(data.zero_point) };
  for (const name of ["shift", "mantissa"]) if (name in data) form[name] = BigInt(data[name]);
  for (const name of ["multiplier", "bias", "scale"]) if (name in data) form[name] = parseRational(data[name]);
  if ("per_channel" in data) form.perChannel = data.per_channel;
  return form;
}

// An operation with its arrays decoded. `staircase`: { lo, hi, forms }, with one form or one for each channel.
function decodeOperation(data) {
  const op = { ...data };
  for (const name of ["weight", "table"]) if (data[name]) op[name] = decodeArray(data[name]);
  if (data.values) op.values = data.values.map(parseRational);
  if (data.staircase) {
    const { lo, hi, requantisation } = data.staircase;
    op.staircase = { lo: BigInt(lo), hi: BigInt(hi), forms: requantisation.map(parseForm) };
  }
  return op;
}

const product = (shape) => shape.reduce((a, b) => a * b, 1);

function decodeNetwork(data) {
  return { ...data, ops: data.ops.map(decodeOperation) };
}

const formOf = (op, channel) => op.staircase.forms[channel % op.staircase.forms.length];

// The flat indices that the window of one output position reads in (C, H, W), channel by channel; -1 in the padding.
function windowOf(op, inShape, outShape, unit, firstChannel, channels) {
  const [, height, width] = inShape;
  const [, rows, columns] = outShape;
  const { kernel, strides, padding, dilations } = op.window;
  const row = Math.floor(unit / columns) % rows;
  const column = unit % columns;
  const found = [];
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < kernel[0]; i++) {
      for (let j = 0; j < kernel[1]; j++) {
        const [y, x] = [row * strides[0] - padding[0] + i * dilations[0], column * strides[1] - padding[1] + j * dilations[1]];
        const inside = y >= 0 && y < height && x >= 0 && x < width;
        found.push(inside ? ((firstChannel + c) * height + y) * width + x : -1);
      }
    }
  }
  return found;
}

const channelOf = (shape, unit) => Math.floor(unit / product(shape.slice(1)));

// The terms of a unit's accumulator, in stored order: { from: flat input index (-1: padding), x, w, zx, zw }, all as stored.
function termsOf(network, index, unit, x) {
  const op = network.ops[index];
  const [inShape, outShape] = [network.tensors[op.x].shape, network.tensors[index + 1].shape];
  const channel = channelOf(outShape, unit);
  const zx = op.input_zero_point;
  const term = (from, w, zw) => ({ from, x: from < 0 ? zx : x[from], w, zx, zw });
  if (op.kind === "mean") return windowOf(op, inShape, outShape, unit, channel, 1).map((from) => term(from, 1, 0));
  const zw = op.weight_zero_point[channel % op.weight_zero_point.length];
  if (op.kind === "dense") {
    const inputs = inShape[0];
    return Array.from({ length: inputs }, (_, j) => term(j, op.weight[channel * inputs + j], zw));
  }
  const inGroup = op.weight_shape[1];
  const group = Math.floor(channel / (op.weight_shape[0] / op.groups));
  const size = inGroup * op.window.kernel[0] * op.window.kernel[1];
  const positions = windowOf(op, inShape, outShape, unit, group * inGroup, inGroup);
  return positions.map((from, k) => term(from, op.weight[channel * size + k], zw));
}

const biasOf = (op, channel) => (op.bias ? op.bias[channel] : 0);
const sumOf = (terms, bias) => terms.reduce((sum, { x, w, zx, zw }) => sum + (x - zx) * (w - zw), bias);

// The accumulator of CPUs without VNNI: raw products in consecutive pairs, each saturated to int16, less the zero point's part.
// `inGroup`: the channels of a convolution's group, which are summed before the next position; 0 for a dense layer.
function sumOfPairs(terms, bias, inGroup) {
  const positions = inGroup ? terms.length / inGroup : 0;
  const ordered = inGroup ? terms.map((_, k) => terms[(k % inGroup) * positions + Math.floor(k / inGroup)]) : terms;
  let sum = bias;
  for (let k = 0; k < ordered.length; k += 2) {
    const [a, b] = [ordered[k], ordered[k + 1]];
    const pair = a.x * a.w + (b ? b.x * b.w : 0);
    sum += (b ? Math.max(-32768, Math.min(32767, pair)) : pair) - a.zx * (a.w + (b ? b.w : 0));
  }
  return sum;
}

// The rule `rule` in place of an operation's own, at the same real multiplier; a float bias joins the accumulator, rounded.
function exchanged(form, rule) {
  if (rule === null || rule === form.rule) return { form, extra: 0n };
  const real = realMultiplier(form);
  const extra = form.bias ? halfEven(over(form.bias, form.scale)) : 0n;
  return { form: storedAs(rule, real[0] === 0n ? power(-62n) : real, form.zeroPoint), extra };
}

// A rule named `rule` (null: each operation's own) on inputs `xs` of operation `index`: its output values.
function evaluate(network, index, xs, rule = null) {
  const op = network.ops[index];
  const [x] = xs;
  const shape = network.tensors[index + 1].shape;
  const each = (f) => Array.from({ length: product(shape) }, (_, unit) => f(unit));
  switch (op.kind) {
    case "dense":
    case "convolution":
    case "mean": {
      const forms = op.staircase.forms.map((form) => exchanged(form, rule));
      return each((unit) => {
        const channel = channelOf(shape, unit);
        const { form, extra } = forms[channel % forms.length];
        const acc = wrap(BigInt(sumOf(termsOf(network, index, unit, x), biasOf(op, channel))), op.accumulator_bits) + extra;
        return Number(requantise(form, acc, op.staircase.lo, op.staircase.hi).out);
      });
    }
    case "float mean":
      return each((unit) => floatMean(network, index, unit, x));
    case "max":
      return each((unit) => Math.max(...windowValues(network, index, unit, x)));
    case "clamp":
      return x.map((v) => Math.max(op.lo, Math.min(op.hi, v)));
    case "table":
      return x.map((v) => op.table[v - op.input_lo]);
    case "add":
      return x.map((v, k) => Math.max(op.lo, Math.min(op.hi, Number(sumByRule(op.rule, BigInt(v), BigInt(xs[1][k]))))));
    case "reshape":
      return x;
    case "transpose":
      return each((unit) => x[transposedFrom(network.tensors[op.x].shape, shape, op.axes, unit)]);
    case "concat":
      return joined(op.xs.map((t) => network.tensors[t].shape), xs, op.axis);
    default:
      throw new Error(`an unknown operation: ${op.kind}`);
  }
}

function windowValues(network, index, unit, x) {
  const op = network.ops[index];
  const [inShape, outShape] = [network.tensors[op.x].shape, network.tensors[index + 1].shape];
  return windowOf(op, inShape, outShape, unit, channelOf(outShape, unit), 1).filter((from) => from >= 0).map((from) => x[from]);
}

function floatMean(network, index, unit, x) {
  const op = network.ops[index];
  const inside = windowValues(network, index, unit, x);
  const total = inside.reduce((sum, v) => float32(plus(sum, op.values[v - op.input_lo])), [0n, 1n]);
  const count = op.count_padding ? op.window.kernel[0] * op.window.kernel[1] : inside.length;
  const mean = float32(over(total, integer(count)));
  const scaled = float32(plus(float32(over(mean, parseRational(op.output_scale))), integer(op.zero_point)));
  return Number(clamp(halfEven(scaled), BigInt(op.lo), BigInt(op.hi)));
}

function sumByRule(rule, a, b) {
  const of = (name) => BigInt(rule[name]);
  switch (rule.kind) {
    case "fma": {
      const [ra, rb, offset] = [rule.ra, rule.rb, rule.offset].map(parseRational);
      return halfEven(float32(plus(times(integer(a), ra), float32(plus(times(integer(b), rb), offset)))));
    }
    case "shift":
      return ((of("bias") + of("ma") * a + of("mb") * b) >> of("shift")) + of("zero_point");
    case "q31": {
      const scaled = (x, [mantissa, shift], zeroPoint) => {
        const form = { rule: rule.single ? "q31-single" : "q31-double", zeroPoint, mantissa: BigInt(mantissa), shift: BigInt(shift) };
        return requantise(form, x, -(1n << 31n), (1n << 31n) - 1n).out;
      };
      const sum = scaled((a - of("za")) << 20n, rule.qa, 0n) + scaled((b - of("zb")) << 20n, rule.qb, 0n);
      return scaled(sum, rule.qo, of("zero_point"));
    }
    default:
      throw new Error(`an unknown addition: ${rule.kind}`);
  }
}

function transposedFrom(inShape, outShape, axes, unit) {
  const strides = inShape.map((_, a) => product(inShape.slice(a + 1)));
  let [rest, from] = [unit, 0];
  for (let a = outShape.length - 1; a >= 0; a--) {
    from += (rest % outShape[a]) * strides[axes[a]];
    rest = Math.floor(rest / outShape[a]);
  }
  return from;
}

function joined(shapes, xs, axis) {
  const blocks = product(shapes[0].slice(0, axis));
  const sizes = shapes.map((shape) => product(shape.slice(axis)));
  return Array.from({ length: blocks }, (_, block) => xs.flatMap((x, k) => x.slice(block * sizes[k], (block + 1) * sizes[k]))).flat();
}

const readsOf = (op) => op.xs ?? (op.kind === "add" ? [op.a, op.b] : [op.x]);

// Products that a run of the whole network sums; Infinity where the page lacks a layer's weights.
function productsOf(network) {
  const size = (op, index) => {
    const outputs = product(network.tensors[index + 1].shape);
    if (op.omitted) return Infinity;
    return op.weight_shape ? outputs * product(op.weight_shape.slice(1)) : outputs;
  };
  return network.ops.reduce((sum, op, index) => sum + size(op, index), 0);
}

// Every tensor for one input, under the operations' own rules or all of them exchanged for `rule`.
function runNetwork(network, input, rule = null) {
  const tensors = [input];
  network.ops.forEach((op, index) => tensors.push(evaluate(network, index, readsOf(op).map((t) => tensors[t]), rule)));
  return tensors;
}
