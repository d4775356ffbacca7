// Requantisation in exact integers, by the definitions of encodings/requantisations: BigInt throughout, no floating point.
//
// A rational is a pair [numerator, denominator] of BigInt with a positive denominator. A float32 or float64 is the rational that it
// stands for, so that one rounding of the hardware is one call of `nearest`. A `form` is a requantisation as it is stored:
//
//   { rule, zeroPoint, shift }                                       shift-half-up
//   { rule, zeroPoint, mantissa, shift }                             q31-double, q31-half-up, q31-single
//   { rule, zeroPoint, multiplier [, bias, scale, perChannel] }      the others; bias and scale belong to fbgemm

const RULES = {
  "shift-half-up": "a rounding shift, half up",
  "q31-double": "two roundings: half up, then half away from zero",
  "q31-half-up": "two roundings, both half up",
  "q31-single": "one rounding of the 64-bit product, half up",
  "float32-half-even": "a float32 product, rounded half to even",
  "fbgemm": "a float bias and a float32 product, rounded half to even",
  "qnnpack": "a float32 product, rounded half to even",
  "float64-away": "a float64 product, rounded half away from zero",
  "rational-half-up": "the exact product, rounded half up",
};

// The float formats: bits of the significand, exponent of the least positive number, exponent beyond the largest.
const FLOAT32 = { precision: 24, least: -149n, beyond: 128n };
const FLOAT64 = { precision: 53, least: -1074n, beyond: 1024n };

// How far a product of a 32-bit kernel may go (bvverify.model.requant).
const INT32_REACH = (1n << 31n) - (1n << 17n);
const ACC_LIMIT = 1n << 48n;

const absolute = (x) => (x < 0n ? -x : x);
const signOf = (x) => (x < 0n ? -1n : x > 0n ? 1n : 0n);
const least = (a, b) => (a < b ? a : b);
const largest = (a, b) => (a > b ? a : b);
const clamp = (x, lo, hi) => least(largest(x, lo), hi);
const bitLength = (x) => BigInt(x === 0n ? 0 : x.toString(2).length);
const power = (exponent) => (exponent < 0n ? [1n, 1n << -exponent] : [1n << exponent, 1n]);

const integer = (x) => [BigInt(x), 1n];
const times = (a, b) => [a[0] * b[0], a[1] * b[1]];
const plus = (a, b) => [a[0] * b[1] + b[0] * a[1], a[1] * b[1]];
const negated = (a) => [-a[0], a[1]];
const over = (a, b) => (b[0] < 0n ? [-a[0] * b[1], a[1] * -b[0]] : [a[0] * b[1], a[1] * b[0]]);
const compare = (a, b) => signOf(a[0] * b[1] - b[0] * a[1]);

function reduced([n, d]) {
  let [a, b] = [absolute(n), d];
  while (b) [a, b] = [b, a % b];
  return a > 1n ? [n / a, d / a] : [n, d];
}

function floorOf([n, d]) {
  const quotient = n / d;
  return n % d < 0n ? quotient - 1n : quotient;
}

const halfUp = (x) => floorOf(plus(x, [1n, 2n]));
const halfAway = (x) => signOf(x[0]) * halfUp([absolute(x[0]), x[1]]);

function halfEven(x) {
  const up = halfUp(x);
  const tie = (2n * x[0]) % x[1] === 0n && ((2n * x[0]) / x[1]) % 2n !== 0n;
  return tie && up % 2n !== 0n ? up - 1n : up;
}

// The number of a float format that is nearest to a rational, ties to even. Beyond the largest it stays as large as it is: every use
// clamps next, which is what becomes of an infinity.
function nearest([n, d], { precision, least: low, beyond }) {
  if (n === 0n) return [0n, 1n];
  const magnitude = [absolute(n), d];
  let exponent = bitLength(magnitude[0]) - bitLength(d) - BigInt(precision);
  if (compare(over(magnitude, power(exponent)), power(BigInt(precision))) >= 0) exponent += 1n;
  exponent = largest(exponent, low);
  const significand = halfEven(over(magnitude, power(exponent)));
  const value = reduced(times([significand, 1n], power(exponent)));
  return compare(value, power(beyond)) >= 0 ? [n, d] : [signOf(n) * value[0], value[1]];
}

const float32 = (x) => nearest(x, FLOAT32);
const float64 = (x) => nearest(x, FLOAT64);

// The real number by which a form multiplies.
function realMultiplier(form) {
  switch (form.rule) {
    case "shift-half-up":
      return power(-form.shift);
    case "q31-double":
    case "q31-half-up":
    case "q31-single":
      return reduced(times(integer(form.mantissa), power(form.shift - 31n)));
    default:
      return form.multiplier;
  }
}

// TFLite's QuantizeMultiplier: mantissa and shift of a positive number, mantissa rounded half away from zero.
function q31(real) {
  let shift = bitLength(real[0]) - bitLength(real[1]);
  if (compare(real, power(shift)) >= 0) shift += 1n;
  let mantissa = halfUp(times(real, power(31n - shift)));
  if (mantissa === 1n << 31n) [mantissa, shift] = [mantissa / 2n, shift + 1n];
  if (shift > 30n) return { mantissa: (1n << 31n) - 1n, shift: 30n };
  return shift < -31n ? { mantissa: 0n, shift: 0n } : { mantissa, shift };
}

// The form in which a rule would store a positive real multiplier.
function storedAs(rule, real, zeroPoint) {
  switch (rule) {
    case "shift-half-up": {
      // The nearest power of two, on a scale of ratios: m < 3/2 of the power below it.
      const below = bitLength(real[0]) - bitLength(real[1]);
      const floor = compare(real, power(below)) >= 0 ? below : below - 1n;
      const shift = compare(real, times([3n, 2n], power(floor))) >= 0 ? -floor - 1n : -floor;
      return { rule, zeroPoint, shift: clamp(shift, 0n, 62n) };
    }
    case "q31-double":
    case "q31-half-up":
    case "q31-single":
      return { rule, zeroPoint, ...q31(real) };
    case "float64-away":
      return { rule, zeroPoint, multiplier: float64(real) };
    case "rational-half-up":
      return { rule, zeroPoint, multiplier: reduced(real) };
    default:
      return { rule, zeroPoint, multiplier: float32(real) };
  }
}

// The largest absolute accumulator for which the runtime does not overflow; null where it cannot.
function reach(form) {
  const product = () => least(floorOf(over(integer(INT32_REACH), form.multiplier)), (1n << 31n) - 1n);
  switch (form.rule) {
    case "q31-double":
    case "q31-half-up":
    case "q31-single":
      return INT32_REACH >> largest(form.shift, 0n);
    case "qnnpack":
    case "float64-away":
      return product();
    case "fbgemm":
      return product() - floorOf(times(integer(2n), form.bias ? over([absolute(form.bias[0]), form.bias[1]], form.scale) : [0n, 1n])) - 2n;
    default:
      return null;
  }
}

// Requantise one accumulator and clamp it to [lo, hi]. Returns the output `out`, what was clamped (`rounded`), the real number that a
// rule without any error would round (`exact`, to which the zero point joins behind the rounding), whether the runtime overflows (`beyond`), and the `steps` on the
// way: [name, what is done, rational].
function requantise(form, acc, lo, hi) {
  const limit = reach(form);
  const beyond = limit !== null && absolute(acc) > limit;
  if (beyond) acc = clamp(acc, -limit, limit);
  const steps = [];
  const note = (name, how, value) => {
    steps.push([name, how, typeof value === "bigint" ? integer(value) : value]);
    return value;
  };
  const integral = roundedBy(form, acc, note);
  const rounded = form.zeroPoint === 0n ? integral : note("zero point", `${integral} + ${form.zeroPoint}`, integral + form.zeroPoint);
  const added = form.bias ? over(form.bias, form.scale) : [0n, 1n];
  const exact = times(plus(integer(acc), added), realMultiplier(form));
  return { out: clamp(rounded, lo, hi), rounded, exact, beyond, steps };
}

function roundedBy(form, acc, note) {
  switch (form.rule) {
    case "shift-half-up": {
      const half = (1n << form.shift) >> 1n;
      return note("rounding shift", `(acc + ${half}) >> ${form.shift}`, (acc + half) >> form.shift);
    }
    case "q31-double":
    case "q31-half-up": {
      const [left, right] = [largest(form.shift, 0n), largest(-form.shift, 0n)];
      const product = note("product", left ? `(acc << ${left}) · Q` : "acc · Q", (acc << left) * form.mantissa);
      const high = note("high half, half up", "(product + 2^30) >> 31", (product + (1n << 30n)) >> 31n);
      const half = (1n << right) >> 1n;
      return form.rule === "q31-half-up"
        ? note("shift, half up", `(high + ${half}) >> ${right}`, (high + half) >> right)
        : note("shift, half away", `sign · ((|high| + ${half}) >> ${right})`, signOf(high) * ((absolute(high) + half) >> right));
    }
    case "q31-single": {
      const right = 31n - form.shift;
      const product = note("product", "acc · Q", acc * form.mantissa);
      return note("shift, half up", `(product + 2^${right - 1n}) >> ${right}`, (product + (1n << (right - 1n))) >> right);
    }
    case "float32-half-even":
    case "qnnpack":
    case "fbgemm": {
      let total = note("to float32", "fl(acc)", float32(integer(acc)));
      if (form.bias && form.perChannel) {
        total = note("plus the bias", "fl(fl(acc) + fl(bias / scale))", float32(plus(total, float32(over(form.bias, form.scale)))));
      } else if (form.bias) {
        const inverse = float32(over([1n, 1n], form.scale));
        total = note("plus the bias", "fl(bias · fl(1 / scale) + fl(acc))", float32(plus(times(form.bias, inverse), total)));
      }
      const product = note("product in float32", "fl(… · m)", float32(times(total, form.multiplier)));
      return note("round half to even", "rne", halfEven(product));
    }
    case "float64-away": {
      const product = note("product in float64", "fl64(acc · M)", float64(times(integer(acc), form.multiplier)));
      return note("round half away from zero", "away", halfAway(product));
    }
    case "rational-half-up":
      return note("round half up", "floor(acc · m + 1/2)", halfUp(times(integer(acc), form.multiplier)));
    default:
      throw new Error(`an unknown rule: ${form.rule}`);
  }
}

// The least accumulator within ±2^48 whose output is at least `level`; ACC_LIMIT + 1 where there is none.
function threshold(form, lo, hi, level) {
  let [below, reaches] = [-ACC_LIMIT - 1n, ACC_LIMIT + 1n];
  while (reaches - below > 1n) {
    const middle = (below + reaches) >> 1n;
    if (requantise(form, middle, lo, hi).out >= level) reaches = middle;
    else below = middle;
  }
  return reaches;
}

// Two's complement: the accumulator modulo 2^bits; as it is where `bits` is null.
const wrap = (acc, bits) => (bits === null ? acc : BigInt.asIntN(Number(bits), acc));

// The nearest number between two integers, and how far above it (negative: below) a rational lies.
function nearestTie(x) {
  const tie = plus(integer(floorOf(x)), [1n, 2n]);
  return { tie, distance: reduced(plus(x, negated(tie))) };
}
