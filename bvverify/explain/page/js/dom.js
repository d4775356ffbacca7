// Elements and numbers as text. All text becomes text nodes: nothing from a model or a result is ever parsed as markup.

function make(namespace, tag, attributes, children) {
  const element = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => make(null, tag, attributes, children);
const s = (tag, attributes, ...children) => make("http://www.w3.org/2000/svg", tag, attributes, children);

const MINUS = "\u2212";
const signed = (text) => String(text).replace(/^-/, MINUS);
const number = (value) => signed(value);
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// A rational in decimal, rounded half away to `places`; a trailing "…" says that more digits follow.
function decimal([n, d], places = 6) {
  const scale = 10n ** BigInt(places);
  const [whole, exact] = [halfAway([n * scale, d]), (n * scale) % d === 0n];
  const digits = absolute(whole).toString().padStart(places + 1, "0");
  const fraction = digits.slice(-places).replace(/0+$/, "");
  const text = digits.slice(0, -places) + (fraction && `.${fraction}`);
  return (n < 0n ? MINUS : "") + text + (exact ? "" : "…");
}

// Small and large numbers alike, to about `digits` significant ones.
function significant(x, digits = 7) {
  if (x[1] === 1n && absolute(x[0]) < 10n ** 24n) return signed(x[0]);
  const magnitude = [absolute(x[0]), x[1]];
  let exponent = magnitude[0].toString().length - magnitude[1].toString().length;
  if (compare(magnitude, exponent < 0 ? [1n, 10n ** BigInt(-exponent)] : [10n ** BigInt(exponent), 1n]) < 0) exponent -= 1;
  if (exponent >= -4 && exponent < 12) return decimal(x, Math.max(0, digits - 1 - exponent));
  const scaled = exponent < 0 ? [x[0] * 10n ** BigInt(-exponent), x[1]] : [x[0], x[1] * 10n ** BigInt(exponent)];
  return `${decimal(scaled, digits - 1)}·10^${signed(exponent)}`;
}

const fraction = (x) => (x[1] === 1n ? signed(x[0]) : `${signed(x[0])}/${x[1]}`);

// A positive real number as a person types it: 0.0125, 1e-3, 3/256 or 13421773*2^-30; null where it is none.
function parseReal(text) {
  const trimmed = text.trim().replace(MINUS, "-");
  const scaled = /^(\d{1,20})\s*[*·]\s*2\^(-?\d{1,3})$/.exec(trimmed);
  if (scaled) return positive(times(integer(scaled[1]), power(BigInt(scaled[2]))));
  const ratio = /^(\d{1,25})\/(\d{1,25})$/.exec(trimmed);
  if (ratio) return BigInt(ratio[2]) ? positive([BigInt(ratio[1]), BigInt(ratio[2])]) : null;
  const real = /^(\d{0,20})(?:\.(\d{0,40}))?(?:[eE]([-+]?\d{1,2}))?$/.exec(trimmed);
  if (!real || !(real[1] || real[2])) return null;
  const [digits, after] = [real[1] + (real[2] ?? ""), (real[2] ?? "").length];
  const exponent = Number(real[3] ?? 0) - after;
  return positive(exponent < 0 ? [BigInt(digits), 10n ** BigInt(-exponent)] : [BigInt(digits) * 10n ** BigInt(exponent), 1n]);
}

const positive = (x) => (x[0] > 0n ? reduced(x) : null);

// The element number of a flat index: "12" in a vector, "3, 0, 5" in an image.
function elementName(shape, unit) {
  const parts = [];
  let rest = unit;
  for (let a = shape.length - 1; a >= 0; a--) {
    parts.unshift(rest % shape[a]);
    rest = Math.floor(rest / shape[a]);
  }
  return parts.join(", ");
}
