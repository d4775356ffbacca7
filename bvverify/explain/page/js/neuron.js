// The calculation of one neuron, twice: as the model computes it (A), and with what the reader changes (B).

const BITS = [8n, 10n, 12n, 14n, 16n, 18n, 20n, 24n, 32n];
const LARGEST = 8;

const isRequantised = (op) => Boolean(op.staircase);

// Two's complement in groups of eight bits.
function bitsOf(acc, bits) {
  const text = BigInt.asUintN(Number(bits), acc).toString(2).padStart(Number(bits), "0");
  return text.replace(/(?=(.{8})+$)/g, " ").trim();
}

const hexOf = (acc, bits) => `0x${BigInt.asUintN(Number(bits), acc).toString(16).padStart(Number(bits) / 4, "0")}`;

function storedText(form) {
  switch (form.rule) {
    case "shift-half-up":
      return `2^${signed(-form.shift)}`;
    case "q31-double":
    case "q31-half-up":
    case "q31-single":
      return `${form.mantissa} · 2^${signed(form.shift - 31n)}`;
    case "rational-half-up":
      return fraction(form.multiplier);
    default: {
      let [significand, exponent] = [form.multiplier[0], -(bitLength(form.multiplier[1]) - 1n)];
      while (significand % 2n === 0n && significand > 0n) [significand, exponent] = [significand / 2n, exponent + 1n];
      return `${significand} · 2^${signed(exponent)}`;
    }
  }
}

class Neuron {
  // `view`: { network, readings, rule, neuronChanged }; `t` is the tensor that the neuron belongs to.
  constructor(view, t, unit, reading) {
    Object.assign(this, { view, t, unit, reading, index: t - 1 });
    this.op = view.network.ops[this.index];
    this.shape = view.network.tensors[t].shape;
    this.channel = channelOf(this.shape, unit);
    this.body = h("div", { class: "calculation" });
    this.half = null;
    if (isRequantised(this.op)) this.reset();
  }

  get title() {
    return `${this.op.name} [${elementName(this.shape, this.unit)}]`;
  }

  get own() {
    return formOf(this.op, this.channel);
  }

  reset() {
    const { form } = exchanged(this.own, this.view.rule);
    this.changed = { rule: form.rule, zeroPoint: form.zeroPoint, real: null, bits: this.ownBits, pairs: false };
  }

  get ownBits() {
    return this.op.accumulator_bits === null ? null : BigInt(this.op.accumulator_bits);
  }

  // The form of side B: the chosen rule at the chosen multiplier and zero point, and what a float bias adds to the accumulator.
  changedForm() {
    const { rule, zeroPoint, real } = this.changed;
    const { form, extra } = exchanged(this.own, rule);
    if (real === null) return { form: { ...form, zeroPoint }, extra };
    // fbgemm keeps its float bias under another multiplier.
    const kept = form.bias ? { bias: form.bias, scale: form.scale, perChannel: form.perChannel } : {};
    return { form: { ...storedAs(rule, real, zeroPoint), ...kept }, extra };
  }

  // Everything that is shown of one side.
  compute(side) {
    const reading = this.view.readings[this.reading];
    const terms = termsOf(this.view.network, this.index, this.unit, reading.tensors[this.op.x]);
    const bias = biasOf(this.op, this.channel);
    const { form, extra } = side === "B" ? this.changedForm() : { form: this.own, extra: 0n };
    const bits = side === "B" ? this.changed.bits : this.ownBits;
    const pairs = side === "B" && this.changed.pairs;
    const sum = BigInt(pairs ? sumOfPairs(terms, bias, this.op.kind === "dense" ? 0 : this.op.weight_shape[1]) : sumOf(terms, bias)) + extra;
    const acc = wrap(sum, bits);
    const { lo, hi } = this.op.staircase;
    return { terms, bias, extra, form, bits, pairs, sum, acc, lo, hi, ...requantise(form, acc, lo, hi) };
  }

  // Whether side B may sum in saturating pairs: uint8 inputs by int8 weights without a zero point.
  get mayPair() {
    const { type } = this.view.network.tensors[this.op.x];
    return type === "uint8" && this.op.weight && !this.op.weight_zero_point.some(Boolean) && this.op.weight.every((w) => w >= -128 && w <= 127);
  }

  render() {
    const parts = isRequantised(this.op) ? this.requantised() : this.moved();
    this.body.replaceChildren(...parts.flat().filter(Boolean));
    return this.body;
  }

  requantised() {
    const [a, b] = [this.compute("A"), this.compute("B")];
    return [this.controls(b), this.table(a, b), this.everyRule(a), this.line(a, b), this.products(a)];
  }

  update(change) {
    Object.assign(this.changed, change);
    this.refresh();
  }

  // Draw anew, with the keyboard's focus where it was.
  refresh() {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.getAttribute("name") : null;
    this.render();
    if (focused) this.body.querySelector(`[name="${CSS.escape(focused)}"]`)?.focus();
  }

  controls({ form }) {
    const { changed } = this;
    const field = (label, control) => h("label", {}, h("span", {}, label), control);
    const select = (name, options, value, choose) =>
      h("select", { name, onchange: (event) => choose(event.target.value) }, options.map(([v, text]) => h("option", { value: v, selected: v === value }, text)));
    const multiplier = h("input", {
      name: "multiplier", type: "text", spellcheck: "false", autocomplete: "off", size: 20,
      value: changed.text ?? storedText(form).replace("·", "*").replace(MINUS, "-"),
      title: "a number such as 0.0125, 3/256 or 13421773 * 2^-30",
      onchange: (event) => {
        const real = parseReal(event.target.value);
        if (real) this.update({ real, text: null });
        else event.target.setAttribute("aria-invalid", "true");
      },
    });
    const zeroPoint = h("input", {
      name: "zero-point", type: "number", step: 1, min: -65536, max: 65536, value: changed.zeroPoint,
      onchange: (event) => {
        if (event.target.checkValidity() && event.target.value !== "") this.update({ zeroPoint: BigInt(event.target.value) });
        else event.target.setAttribute("aria-invalid", "true");
      },
    });
    const widths = [["exact", "exact"], ...[...new Set([...BITS, changed.bits ?? 32n])].map((v) => [String(v), `${v} bits, wraps`])];
    const readings = this.view.readings.map((r, k) => [String(k), r.name]);
    return h("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
      readings.length > 1 && field("Input", select("reading", readings, String(this.reading), (v) => { this.reading = Number(v); this.refresh(); })),
      field("B: rounding rule", select("rule", Object.keys(RULES).map((r) => [r, r]), changed.rule, (rule) => this.update({ rule }))),
      field("B: multiplier", multiplier),
      field("B: zero point", zeroPoint),
      field("B: accumulator", select("bits", widths, String(changed.bits ?? "exact"), (v) => this.update({ bits: v === "exact" ? null : BigInt(v) }))),
      this.mayPair && field("B: sum of products", select("pairs", [["exact", "exact"], ["pairs", "saturating pairs"]], changed.pairs ? "pairs" : "exact", (v) => this.update({ pairs: v === "pairs" }))),
      h("button", { type: "button", name: "reset", onclick: () => { this.reset(); this.refresh(); } }, "Reset B"));
  }

  table(a, b) {
    const recorded = this.view.readings[this.reading].tensors[this.t][this.unit];
    const rows = [];
    const row = (name, f, kind = "") => {
      const [left, right] = [f(a, "A"), f(b, "B")];
      const text = (cell) => (typeof cell === "string" ? cell : cell[0].textContent.replace(/^\u2260 /, ""));
      const differs = text(left) !== text(right);
      const cell = (side, content) => h("div", { class: "cell", role: "cell", "data-side": side }, content);
      rows.push(h("div", { class: `row ${kind} ${differs ? "differs" : ""}`, role: "row", "data-row": name },
        h("div", { class: "name", role: "rowheader" }, name), cell("A", left), cell("B", differs && typeof right === "string" ? `\u2260 ${right}` : right)));
    };
    const width = ({ bits, acc }) => bits ?? BigInt(Math.max(32, 8 * Math.ceil((acc.toString(2).length + 1) / 8)));
    row("sum of products and bias", ({ sum, bias, extra }) => `${signed(sum)} (bias ${signed(bias)}${extra ? `, and ${signed(extra)} for the float bias` : ""})`);
    row("accumulator", ({ acc, sum }) => signed(acc) + (acc === sum ? "" : ", wrapped"), "strong");
    row("in hexadecimal", (side) => hexOf(side.acc, width(side)));
    row("in bits", (side) => bitsOf(side.acc, width(side)));
    row("headroom", ({ bits, acc }) => (bits === null ? "exact: cannot overflow" : `${(1n << (bits - 1n)) - (acc < 0n ? 0n : 1n) - absolute(acc)} to the end of ${bits} bits`));
    row("multiplier as stored", ({ form }) => storedText(form));
    row("which is", ({ form }) => significant(realMultiplier(form), 9));
    row("exact value before rounding", ({ exact }) => significant(reduced(exact), 12), "strong");
    row("from the nearest tie", ({ exact }) => {
      const { tie, distance } = nearestTie(exact);
      if (distance[0] === 0n) return `on the tie ${decimal(tie, 1)}`;
      return `${significant([absolute(distance[0]), distance[1]], 4)} ${distance[0] > 0n ? "above" : "below"} ${decimal(tie, 1)}`;
    });
    row("rounding", ({ steps }) => [h("ol", {}, steps.map(([name, how, value]) => h("li", {}, h("span", { class: "how" }, `${name}: ${how}`), h("span", { class: "value" }, ` = ${significant(value, 12)}`))))]);
    row("clamp", ({ rounded, out, lo, hi }) => `to [${signed(lo)}, ${signed(hi)}]: ${rounded === out ? "inside" : "saturates"}`);
    row("output", ({ out, beyond }, side) => {
      const check = side === "B" ? "" : Number(out) === recorded ? " (the interpreter's, too)" : `, but the interpreter has ${recorded}: please report this`;
      const mark = side === "B" && out !== a.out ? "\u2260 " : "";
      return [h("span", {}, mark, h("output", { class: "out" }, signed(out))), h("span", { class: "note" }, check + (beyond ? " (the runtime overflows here; not modelled)" : ""))];
    }, "result");
    const head = h("div", { class: "row head", role: "row" }, h("div", { class: "name", role: "columnheader" }, "step"),
      h("div", { class: "cell", role: "columnheader" }, h("b", {}, "A"), ` the model's own: ${a.form.rule}`, definition(a.form.rule)),
      h("div", { class: "cell", role: "columnheader" }, h("b", {}, "B"), ` yours: ${b.form.rule}`, definition(b.form.rule)));
    return h("div", { class: "steps", role: "table", "aria-label": `calculation of ${this.title}`, "aria-live": "polite" }, head, rows);
  }

  // What each rule makes of this accumulator at the same real multiplier.
  everyRule(a) {
    const chip = (rule) => {
      const { form, extra } = exchanged(this.own, rule);
      const { out } = requantise(form, a.acc + extra, a.lo, a.hi);
      const same = out === a.out;
      return h("button", { type: "button", class: `chip ${same ? "" : "differs"}`, name: `chip-${rule}`, title: RULES[rule], "aria-pressed": String(this.changed.rule === rule), onclick: () => this.update({ rule, real: null }) },
        h("span", {}, rule), h("b", {}, `${same ? "" : "\u2260 "}${signed(out)}`));
    };
    const rules = Object.keys(RULES).filter((rule) => rule !== "shift-half-up" || a.form.rule === rule || isPowerOfTwo(realMultiplier(a.form)));
    return h("div", { class: "chips" }, h("h5", {}, "The model's accumulator and multiplier under every rule"), h("div", { class: "row-of-chips" }, rules.map(chip)));
  }

  line(a, b) {
    const perLevel = a.form && realMultiplier(a.form)[0] ? floorOf(over(integer(1), realMultiplier(a.form))) + 1n : 1n;
    this.half ??= largest(perLevel * 5n / 2n, 4n);
    const zoom = (factor) => () => { this.half = factor > 0n ? largest(this.half / factor, 4n) : this.half * -factor; this.refresh(); };
    const lanes = [{ name: `A ${a.form.rule}`, ...a }, { name: `B ${b.form.rule}`, ...b }];
    const width = Math.max(280, Math.min(1000, (this.body.clientWidth || 760) - 2));
    return h("div", { class: "number-line" },
      h("h5", {}, "The staircase around the accumulator"),
      numberLine(lanes, a.lo, a.hi, this.half, width),
      h("div", { class: "zoom" },
        h("button", { type: "button", name: "zoom-in", onclick: zoom(4n) }, "zoom in"), h("button", { type: "button", name: "zoom-out", onclick: zoom(-4n) }, "zoom out"),
        h("span", { class: "key" }, "Blocks: outputs; their edges: thresholds. ", h("span", { class: "tie-key" }, "\u25b2"), " ties. ", h("span", { class: "here-key" }, "\u2503"), " the accumulator.")));
  }

  products({ terms }) {
    const all = terms.map((term, k) => ({ ...term, k, value: (term.x - term.zx) * (term.w - term.zw) })).sort((p, q) => Math.abs(q.value) - Math.abs(p.value));
    const [shown, rest] = this.everyTerm ? [all, []] : [all.slice(0, LARGEST), all.slice(LARGEST)];
    const most = Math.max(1, Math.abs(all[0]?.value ?? 0));
    const inShape = this.view.network.tensors[this.op.x].shape;
    const line = (t) => h("tr", {},
      h("td", {}, t.from < 0 ? "padding" : elementName(inShape, t.from)), h("td", {}, `${signed(t.x)} ${MINUS} ${t.zx < 0 ? `(${signed(t.zx)})` : t.zx}`),
      h("td", {}, `${signed(t.w)} ${MINUS} ${t.zw < 0 ? `(${signed(t.zw)})` : t.zw}`), h("td", { class: "product" }, signed(t.value)),
      h("td", { class: "meter" }, h("span", { class: t.value < 0 ? "minus" : "plus", style: `width:${(Math.abs(t.value) / most) * 100}%` })));
    return h("details", { class: "products", open: this.productsOpen, ontoggle: (event) => { this.productsOpen = event.target.open; } },
      h("summary", {}, `${terms.length} products, the largest first`),
      h("div", { class: "scroll", tabindex: 0 }, h("table", {},
        h("thead", {}, h("tr", {}, ["input", "x \u2212 zero point", "w \u2212 zero point", "product", ""].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, shown.map(line), rest.length > 0 && h("tr", {}, h("td", { colspan: 3 }, `the other ${rest.length}`), h("td", { class: "product" }, signed(rest.reduce((sum, t) => sum + t.value, 0))), h("td", {}))))),
      rest.length > 0 && h("button", { type: "button", name: "every-product", onclick: () => { this.everyTerm = true; this.refresh(); } }, `show all ${terms.length}`));
  }

  // Operations without an accumulator that is rounded: what they read and what they give.
  moved() {
    const { network, readings } = this.view;
    const reading = readings[this.reading];
    const xs = readsOf(this.op).map((t) => reading.tensors[t]);
    const recorded = reading.tensors[this.t][this.unit];
    if (this.op.omitted) return [h("p", {}, `Output ${signed(recorded)}. The ${this.op.omitted} weights of this layer would make the page too large, so its calculations are left out; bvverify trace shows them.`)];
    if (xs.some((x) => x === null)) return [h("p", {}, `Output ${signed(recorded)}; what it reads is too large for this page.`)];
    const computed = evaluate(network, this.index, xs)[this.unit];
    const reads = ["max", "float mean"].includes(this.op.kind) ? windowValues(network, this.index, this.unit, xs[0])
      : ["clamp", "table", "add"].includes(this.op.kind) ? xs.map((x) => x[this.unit]) : [];
    const how = { max: "the largest of", "float mean": "the float32 mean of", clamp: `clamped to [${this.op.lo}, ${this.op.hi}]:`, table: "the table's entry for", add: "the rounded sum of" }[this.op.kind];
    return [h("p", {}, h("output", { class: "out" }, signed(computed)), how ? ` is ${how} ${reads.map(signed).join(", ")}.` : " is moved here unchanged.",
      computed === recorded ? " The interpreter has it, too." : ` But the interpreter has ${recorded}: please report this.`)];
  }
}

const definition = (rule) => h("small", {}, `${RULES[rule]}; defined in encodings/requantisations/${rule}`);
const isPowerOfTwo = ([n, d]) => (n & (n - 1n)) === 0n && (d & (d - 1n)) === 0n && n <= d;
