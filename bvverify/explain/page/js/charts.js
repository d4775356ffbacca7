// Tensors as pictures: one canvas pixel a value, enlarged by the style sheet. Colours stay apart for the colour-blind (cividis; blue and
// vermilion), and every value can be read as a number as well.

const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [165, 156, 116], [254, 232, 56]];
const BLUE = [0, 114, 178];
const VERMILION = [213, 94, 0];

const mix = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * t));
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;

function sequential(t) {
  const at = Math.max(0, Math.min(1, t)) * (CIVIDIS.length - 1);
  const k = Math.min(Math.floor(at), CIVIDIS.length - 2);
  return mix(CIVIDIS[k], CIVIDIS[k + 1], at - k);
}

const grey = (t) => Array(3).fill(Math.round(255 * Math.max(0, Math.min(1, t))));
const diverging = (t) => mix(dark() ? [44, 44, 46] : [240, 238, 233], t < 0 ? BLUE : VERMILION, Math.pow(Math.min(1, Math.abs(t)), 0.7));
const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

const isVector = (shape) => shape.length !== 3 || shape[1] * shape[2] === 1;

// Where the values of a tensor lie on the canvas: vectors in rows of 32, images as tiles with a gap between them.
function layout(shape) {
  const size = product(shape);
  if (!isVector(shape)) {
    const [channels, height, width] = shape;
    const across = Math.max(1, Math.min(channels, Math.floor(64 / (width + 1)) || 1));
    const place = (unit) => {
      const [c, y, x] = [Math.floor(unit / (height * width)), Math.floor(unit / width) % height, unit % width];
      return [(c % across) * (width + 1) + x, Math.floor(c / across) * (height + 1) + y];
    };
    return { columns: across * (width + 1) - 1, rows: Math.ceil(channels / across) * (height + 1) - 1, place, size, step: width };
  }
  const columns = Math.min(size, 32);
  return { columns, rows: Math.ceil(size / columns), place: (unit) => [unit % columns, Math.floor(unit / columns)], size, step: columns };
}

// A canvas with the colours `colour(unit)` of a tensor; it paints itself anew when the colour scheme changes.
function heatmap(shape, colour, label) {
  const { columns, rows, place, size } = layout(shape);
  const canvas = h("canvas", { width: columns, height: rows, role: "img", "aria-label": label });
  const paint = () => {
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    for (let unit = 0; unit < size; unit++) {
      const [x, y] = place(unit);
      pixels.data.set([...colour(unit), 255], 4 * (y * columns + x));
    }
    context.putImageData(pixels, 0, 0);
  };
  paint();
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", paint);
  return canvas;
}

// A tensor as an image of one or three channels, which stand in front (ONNX, PyTorch) or behind (TensorFlow Lite); null where it is none.
// `at(c, k)` is the flat index of channel c at pixel k.
function imageOf(shape) {
  if (shape.length !== 3) return null;
  const [a, b, c] = shape;
  if ((a === 1 || a === 3) && b > 1 && c > 1) return { channels: a, height: b, width: c, at: (channel, k) => channel * b * c + k };
  if ((c === 1 || c === 3) && a > 1 && b > 1) return { channels: c, height: a, width: b, at: (channel, k) => k * c + channel };
  return null;
}

// The values of all channels at pixel k.
const pixel = ({ channels, at }, values, k) => Array.from({ length: channels }, (_, c) => values[at(c, k)]);

// One picture of an image: grey, or red, green and blue.
function picture(image, values, lo, hi, label) {
  const level = (v) => grey((v - lo) / (hi - lo || 1))[0];
  return heatmap([1, image.height, image.width], (k) => (image.channels === 3 ? pixel(image, values, k).map(level) : Array(3).fill(level(values[k]))), label);
}

function changes(image, difference, label) {
  const strongest = (k) => pixel(image, difference, k).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
  const most = Math.max(1, ...difference.map(Math.abs));
  return heatmap([1, image.height, image.width], (k) => diverging(strongest(k) / most), label);
}

const figure = (title, content, note, kind = "") => h("figure", { class: kind }, h("figcaption", {}, h("b", {}, title), note ? ` ${note}` : ""), content);

// The inputs of a result: pictures of images, bars of vectors.
function inputFigures(tensor, original, adversarial, box) {
  const difference = adversarial?.values.map((v, k) => v - original.values[k]);
  const most = difference ? Math.max(0, ...difference.map(Math.abs)) : 0;
  const scale = `enlarged: full colour is ${counted(most, "step")}; orange more, blue less`;
  const image = imageOf(tensor.shape);
  if (!image) return [figure("The input", bars(tensor, original, adversarial, box), `${original.values.length} values`, "wide")];
  // The range that the picture uses: a type is often wider than the pixels in it.
  const shown = [...original.values, ...(adversarial?.values ?? [])];
  const [lo, hi] = [Math.min(...shown), Math.max(...shown)];
  const draw = (reading) => picture(image, reading.values, lo, hi, `${reading.name} input`);
  const figures = [figure(original.name, draw(original), `${number(lo)} black, ${number(hi)} white`)];
  if (adversarial) {
    figures.push(figure("adversarial", draw(adversarial), "drawn alike"));
    figures.push(figure("difference", changes(image, difference, "difference of the two inputs"), scale));
  } else {
    const widths = box.lo.map((v, k) => box.hi[k] - v);
    const widest = Math.max(1, ...widths);
    const room = heatmap([1, image.height, image.width], (k) => sequential(Math.max(...pixel(image, widths, k)) / widest), "how many values each input may take");
    figures.push(figure("the box", room, `bright: takes up to ${widest + 1} values; grey: fewer; dark: one`));
  }
  return figures;
}

// Where the bars of a vector stand: on the zero point where no value lies below it, else on the least value of the type.
function floorOfBars({ type, zero_point: zero }, values) {
  if (zero !== null && values.every((v) => v >= zero)) return [zero, "the zero point"];
  return [type.startsWith("u") ? 0 : -(2 ** (Number(type.replace(/\D/g, "")) - 1)), `the least ${type}`];
}

// A bar chart of an input vector: the box as a band, the original as a bar, the adversarial value as a mark.
function bars(tensor, original, adversarial, box) {
  const count = original.values.length;
  const [width, height] = [Math.max(320, Math.min(4000, 16 * count)), 180];
  const [base, ground] = floorOfBars(tensor, original.values);
  const everything = [...box.lo, ...box.hi, ...original.values, base];
  const [lo, hi] = [Math.min(...everything), Math.max(...everything)];
  const y = (v) => height - 8 - ((v - lo) / (hi - lo || 1)) * (height - 16);
  const step = width / count;
  const rows = original.values.map((v, k) => {
    const moved = adversarial && adversarial.values[k] !== v;
    const words = `input ${k}: ${original.name} ${v}, box ${box.lo[k]} to ${box.hi[k]}${adversarial ? `, adversarial ${adversarial.values[k]}` : ""}`;
    return s("g", {},
      s("title", {}, words),
      s("rect", { class: "band", x: k * step + step * 0.1, y: y(box.hi[k]), width: step * 0.8, height: Math.max(1, y(box.lo[k]) - y(box.hi[k])) }),
      s("rect", { class: "bar", x: k * step + step * 0.3, y: y(v), width: step * 0.4, height: Math.max(1, y(base) - y(v)) }),
      moved && s("path", { class: "moved", d: `M${k * step + step * 0.1} ${y(adversarial.values[k])}h${step * 0.8}` }));
  });
  const chart = s("svg", { width, height, class: "bars", role: "img", "aria-label": "input values, the box around them, and what the adversarial input changes" },
    s("path", { class: "axis", d: `M0 ${y(base)}H${width}` }), rows);
  return h("div", { class: "scroll", tabindex: 0 }, chart,
    h("p", { class: "key" }, `Bars: ${original.name}, from ${number(base)}, ${ground}. Bands: the box.${adversarial ? " Marks: the adversarial values." : ""}`));
}
