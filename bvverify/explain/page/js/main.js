// The page: one article a result, put together from the data that stands in it.

const VERDICTS = { verified: ["\u2713", "Verified"], falsified: ["\u2715", "Falsified"], unknown: ["?", "Unknown"] };

const decodeReading = ({ name, tensors }) => {
  const decoded = tensors.map((t) => t && decodeArray(t));
  return { name, tensors: decoded, values: decoded[0] };
};

function outputsTable(view, label) {
  const t = view.network.output;
  const columns = view.readings.map((r) => r.tensors[t]);
  if (columns.some((c) => !c) || columns[0].length > 64) return null;
  const everything = columns.flat();
  const [lo, hi] = [Math.min(...everything), Math.max(...everything)];
  const winner = columns.map((c) => c.indexOf(Math.max(...c)));
  const cell = (c, k, i) => h("td", { class: winner[i] === k ? "winner" : "" },
    h("span", { class: "bar", style: `--share:${(c[k] - lo) / (hi - lo || 1)}` }), h("span", { class: "value" }, (winner[i] === k ? "\u25b8 " : "") + signed(c[k])));
  return h("section", {}, h("h3", {}, "Outputs"), h("table", { class: "outputs" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, label === null ? "output" : "class"), view.readings.map((r) => h("th", { scope: "col" }, r.name)))),
    h("tbody", {}, columns[0].map((_, k) => h("tr", {}, h("th", { scope: "row" }, k, k === label && h("small", { title: "the class that was asked about" }, " \u2713")), columns.map((c, i) => cell(c, k, i)))))),
    h("p", { class: "key" }, "\u25b8 the largest output; where several are, the first. ", label !== null && "\u2713 the class that was asked about."));
}

function decidedSection(result) {
  const most = Math.max(...result.stages.map((stage) => stage.seconds), 1e-9);
  const stage = ({ stage: name, seconds, verdict, detail }) => h("tr", {},
    h("th", { scope: "row" }, name), h("td", { class: "seconds" }, `${seconds.toFixed(3)} s`),
    h("td", { class: "meter" }, h("span", { class: "plus", style: `width:${(seconds / most) * 100}%` })), h("td", {}, [verdict, detail].filter(Boolean).join(": ")));
  return h("section", {}, h("h3", {}, "How it was decided"),
    result.verdict === "falsified" ? null : h("p", {}, result.because, "."),
    h("div", { class: "scroll", tabindex: 0 }, h("table", { class: "stages" }, h("tbody", {}, result.stages.map(stage)))),
    h("h4", {}, "What it rests on"), h("ul", {}, result.trust.map((line) => h("li", {}, line))));
}

function reproduceSection(result) {
  const code = h("code", {}, result.command);
  const copy = h("button", { type: "button", class: "no-print", name: "copy", onclick: () => {
    getSelection().selectAllChildren(code);
    navigator.clipboard?.writeText(result.command).then(() => { copy.textContent = "copied"; }, () => { copy.textContent = "selected"; });
  } }, "copy");
  return h("section", {}, h("h3", {}, "Ask again"), h("div", { class: "command" }, h("pre", { tabindex: 0 }, code), copy),
    h("dl", {}, result.facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])));
}

function article(data, result, id) {
  const network = data.networks[result.network];
  const readings = [result.reference, result.witness].filter(Boolean).map(decodeReading);
  const view = { network, readings, rule: null, other: null };
  const [sign, word] = VERDICTS[result.verdict];
  const box = { lo: decodeArray(result.box.lo), hi: decodeArray(result.box.hi) };
  const layers = layersSection(view);
  // The neuron that decides: the largest output of the adversarial input. Open from the start, so that the page shows what it can do.
  const last = layers.layers[network.output - 1];
  const outputs = readings.at(-1).tensors[network.output];
  const element = h("article", { id, class: result.verdict },
    h("header", {}, h("p", { class: "verdict" }, h("span", { class: "sign", "aria-hidden": "true" }, sign), h("span", {}, word)), h("h2", {}, result.sentence),
      h("p", { class: "holds" }, result.verdict === "unknown" ? "The question is about the arithmetic of " : "This holds for the arithmetic of ", h("b", {}, result.holds_for), ", bit for bit, and for no other.")),
    readings[0].values && h("section", {}, h("h3", {}, "Input"), h("div", { class: "figures" }, inputFigures(network.tensors[0], readings[0], readings[1], box))),
    outputsTable(view, result.label), layers.element, treeSection(result, network), decidedSection(result), reproduceSection(result));
  return { element, shown: () => last && outputs && last.open(outputs.indexOf(Math.max(...outputs))), resized: () => layers.layers.forEach((l) => l?.refresh()) };
}

function main() {
  const data = JSON.parse(document.getElementById("data").textContent);
  data.networks = data.networks.map(decodeNetwork);
  const articles = data.results.map((result, k) => article(data, result, `result-${k + 1}`));
  const contents = data.results.length > 1 && h("nav", { "aria-label": "results" }, h("h2", {}, `${data.results.length} results`),
    h("ol", {}, data.results.map((r, k) => h("li", { class: r.verdict }, h("a", { href: `#result-${k + 1}` }, h("span", { class: "sign", "aria-hidden": "true" }, VERDICTS[r.verdict][0]), ` ${VERDICTS[r.verdict][1]}: ${r.sentence}`)))));
  document.getElementById("page").append(h("p", { class: "brand" }, "bvverify report"), ...(contents ? [contents] : []), ...articles.map((a) => a.element));
  articles.forEach((a) => a.shown());
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) articles.forEach((a) => a.resized());
    width = innerWidth;
  });
}

main();
