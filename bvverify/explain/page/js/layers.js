// The layers of one result as heat strips, each with a cursor; a click or Enter opens the calculation of a neuron.

class Layer {
  constructor(view, t) {
    Object.assign(this, { view, t, unit: 0 });
    this.tensor = view.network.tensors[t];
    this.op = view.network.ops[t - 1];
    this.place = layout(this.tensor.shape);
    this.strips = h("div", {
      class: "strips", role: "slider", tabindex: 0, "aria-valuemin": 0, "aria-valuemax": this.place.size - 1, "aria-label": `neurons of ${this.op.name}; Enter opens one`,
      onkeydown: (event) => this.key(event),
    });
    this.status = h("p", { class: "status" });
    this.panel = h("div", { class: "panel", hidden: true });
    this.element = h("section", { class: "layer", "data-tensor": t }, this.heading(), this.strips, this.status, this.panel);
    this.draw();
    this.moveTo(0);
  }

  heading() {
    const { shape, type } = this.tensor;
    const rules = isRequantised(this.op) ? [...new Set(this.op.staircase.forms.map((f) => f.rule))].join(", ") : "";
    return h("h4", {}, this.op.name, h("small", {}, ` ${[this.op.kind, shape.join("\u00d7"), type, rules].filter(Boolean).join(" \u00b7 ")}`));
  }

  draw() {
    const { t, view } = this;
    const readings = view.readings.map((r) => r.tensors[t]);
    const shown = readings.filter(Boolean);
    if (!shown.length) {
      this.strips.replaceChildren(h("p", { class: "note" }, "Too large for this page."));
      return;
    }
    const lo = Math.min(...shown.map((x) => x.reduce((a, b) => Math.min(a, b))));
    const hi = Math.max(...shown.map((x) => x.reduce((a, b) => Math.max(a, b))));
    const strips = readings.map((x, k) => this.strip(view.readings[k].name, (unit) => sequential((x[unit] - lo) / (hi - lo || 1)), k ? "" : `${number(lo)} dark to ${number(hi)} bright`));
    if (readings.length > 1) strips.push(this.differenceStrip("difference", readings[1], readings[0]));
    const other = view.other?.[t];
    if (other) strips.push(this.differenceStrip(`under ${view.rule}`, other, readings[view.otherReading]));
    this.strips.replaceChildren(...strips);
    this.moveTo(this.unit);
  }

  differenceStrip(name, a, b) {
    const difference = a.map((v, k) => v - b[k]);
    const most = Math.max(1, difference.reduce((m, v) => Math.max(m, Math.abs(v)), 0));
    const count = difference.filter(Boolean).length;
    return this.strip(name, (unit) => diverging(difference[unit] / most), count ? `${count} ${count === 1 ? "differs" : "differ"}, by up to ${most}` : "none differs");
  }

  strip(name, colour, note) {
    const { columns, rows } = this.place;
    const cells = h("div", { class: "cells", style: `--columns:${columns};--rows:${rows};--tall:${isVector(this.tensor.shape) ? 1.5 : 1}`, onclick: (event) => this.click(event) },
      heatmap(this.tensor.shape, colour, `${name} values of ${this.op.name}`), h("span", { class: "cursor" }));
    return figure(name, cells, note);
  }

  click(event) {
    const area = event.currentTarget.getBoundingClientRect();
    const column = Math.floor(((event.clientX - area.left) / area.width) * this.place.columns);
    const row = Math.floor(((event.clientY - area.top) / area.height) * this.place.rows);
    for (let unit = 0; unit < this.place.size; unit++) {
      const [x, y] = this.place.place(unit);
      if (x === column && y === row) return this.open(unit);
    }
    return undefined;
  }

  key(event) {
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.place.step, ArrowUp: -this.place.step, Home: -Infinity, End: Infinity };
    if (event.key in moves) this.moveTo(this.unit + moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") this.open(this.unit);
    else return;
    event.preventDefault();
  }

  moveTo(unit) {
    this.unit = Math.max(0, Math.min(this.place.size - 1, unit));
    const [x, y] = this.place.place(this.unit);
    for (const cursor of this.strips.querySelectorAll(".cursor")) cursor.style.cssText = `--x:${x};--y:${y}`;
    const values = this.view.readings.map((r) => (r.tensors[this.t] ? `${r.name} ${signed(r.tensors[this.t][this.unit])}` : null)).filter(Boolean);
    const other = this.view.other?.[this.t];
    if (other) values.push(`under ${this.view.rule} ${signed(other[this.unit])}`);
    const text = `neuron ${elementName(this.tensor.shape, this.unit)}: ${values.join(", ")}`;
    this.status.textContent = text;
    this.strips.setAttribute("aria-valuenow", this.unit);
    this.strips.setAttribute("aria-valuetext", text);
  }

  open(unit) {
    this.moveTo(unit);
    this.neuron = new Neuron(this.view, this.t, unit, this.view.readings.length - 1);
    const close = h("button", { type: "button", class: "close", name: "close", "aria-label": "close this calculation", onclick: () => { this.panel.hidden = true; this.strips.focus(); } }, "\u00d7");
    this.panel.replaceChildren(h("h5", { class: "title" }, "How ", this.neuron.title, " is computed"), close, this.neuron.body);
    this.panel.hidden = false;
    this.neuron.render();
  }

  // After the second semantics or the width of the page has changed.
  refresh({ reset = false } = {}) {
    this.draw();
    if (this.panel.hidden) return;
    if (reset && isRequantised(this.op)) this.neuron.reset();
    this.neuron.render();
  }
}

// A run beyond as many products would keep the reader waiting.
const MOST_PRODUCTS = 2 ** 23;

// The section: a choice of a second semantics for the whole network, then every layer.
function layersSection(view) {
  const layers = view.network.ops.map((_, index) => (["reshape", "transpose"].includes(view.network.ops[index].kind) ? null : new Layer(view, index + 1)));
  const outcome = h("p", { class: "outcome", "aria-live": "polite" });
  const choose = (rule) => {
    view.rule = rule || null;
    view.otherReading = view.readings.length - 1;
    const input = view.readings[view.otherReading].tensors[0];
    view.other = view.rule && input ? runNetwork(view.network, input, view.rule) : null;
    outcome.textContent = view.other ? describeOutcome(view) : "";
    layers.forEach((layer) => layer?.refresh({ reset: true }));
  };
  const select = h("select", { name: "second-semantics", onchange: (event) => choose(event.target.value) },
    h("option", { value: "" }, "none"), Object.keys(RULES).filter((r) => r !== "shift-half-up").map((r) => h("option", { value: r }, r)));
  const head = productsOf(view.network) <= MOST_PRODUCTS
    ? h("div", { class: "second no-print" }, h("label", {}, h("span", {}, "Round every layer by a second rule, at the same multipliers"), select), outcome)
    : h("p", { class: "note" }, "The network is too large for this page to run it under a second rule.");
  return { element: h("section", { class: "layers" }, h("h3", {}, "Layers"), h("p", { class: "hint no-print" }, "Click a neuron to open its calculation; with the keyboard: Tab to a layer, arrows, Enter."), head, layers.filter(Boolean).map((l) => l.element)), layers };
}

function describeOutcome(view) {
  const own = view.readings[view.otherReading];
  const t = view.network.output;
  const [a, b] = [own.tensors[t], view.other[t]];
  const best = (y) => y.indexOf(Math.max(...y));
  const count = a.filter((v, k) => v !== b[k]).length;
  const neurons = view.other.slice(1).reduce((sum, x, k) => sum + (own.tensors[k + 1] ? x.filter((v, i) => v !== own.tensors[k + 1][i]).length : 0), 0);
  const decided = best(a) === best(b) ? `the largest stays output ${best(a)}` : `the largest becomes output ${best(b)} instead of ${best(a)}`;
  return `On the ${own.name} input, ${view.rule} changes ${counted(neurons, "value")} in all and ${count} of ${a.length} outputs: ${decided}.`;
}
