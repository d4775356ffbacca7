// Branch and bound as a certificate records it: nested disclosures that are filled when they are opened, and the whole shape as icicles.

const KINDS = {
  split: ["\u25c7", "split"],
  interval: ["\u25ad", "closed by intervals"],
  bound: ["\u25cf", "closed by multipliers"],
  solver: ["?", "closed by the solver, unchecked"],
};

function treeSection(result, network) {
  if (!result.trees.length && !result.no_tree) return null;
  const section = h("section", { class: "trees" }, h("h3", {}, "The proof"));
  if (!result.trees.length) section.append(h("p", { class: "note" }, result.no_tree));
  for (const { nodes } of result.trees) for (const node of nodes) if (node.kind === "split") node.place = placeOf(network, node);
  result.trees.forEach((tree, k) => section.append(forest(tree, result.trees.length > 1 ? `Box ${k + 1}` : null)));
  return section;
}

function forest(tree, title) {
  const children = new Map();
  tree.nodes.forEach((node, k) => children.set(node.parent, [...(children.get(node.parent) ?? []), k]));
  const counts = Object.keys(KINDS).map((kind) => [kind, tree.nodes.filter((n) => n.kind === kind).length]).filter(([, count]) => count);
  const hidden = tree.total - tree.nodes.length;
  return h("div", { class: "forest" },
    title && h("h4", {}, title),
    h("p", {}, `${counted(tree.claims, "claim")} about single accumulators, proved first, hold on the whole box. Then one tree for each way to violate the property: `,
      counts.map(([kind, count]) => (kind === "split" ? counted(count, "split") : `${count} ${KINDS[kind][1]}`)).join(", "),
      hidden ? `; ${hidden} deeper nodes are counted only.` : "."),
    h("p", { class: "key" }, "The excess is how far the outputs stay from a violation; a node is closed when it is above 0. Bounds are computed from the certificate, exactly, and rounded down."),
    icicles(tree, children),
    h("p", { class: "key legend" }, counts.map(([kind]) => [s("svg", { width: 12, height: 9, "aria-hidden": "true" }, s("rect", { class: kind, width: 12, height: 9 })), ` ${KINDS[kind][1]} `])),
    h("div", { class: "roots" }, (children.get(-1) ?? []).map((k) => branch(tree, children, k, null))));
}

// One node: a line, and below it, once opened, its two parts.
function branch(tree, children, k, side) {
  const node = tree.nodes[k];
  const below = children.get(k) ?? [];
  const line = [
    h("span", { class: `mark ${node.kind}`, title: KINDS[node.kind][1] }, KINDS[node.kind][0]),
    side ? h("span", { class: "side" }, side) : h("b", {}, tree.conjunctions[node.conjunction]),
    h("span", { class: "what" }, whatOf(node)),
    excessOf(node),
  ];
  if (node.kind !== "split") return h("div", { class: "leaf node", "data-node": k }, h("span", { class: "entry" }, line));
  const content = h("div", { class: "below" });
  const fill = () => {
    if (content.childElementCount) return;
    if (below.length) content.append(...below.map((child, i) => branch(tree, children, child, i ? `\u2265 ${signed(node.value + 1)}` : `\u2264 ${signed(node.value)}`)));
    else content.append(h("p", { class: "note" }, `${node.descendants} nodes below are not in this page.`));
  };
  return h("details", { class: "node", "data-node": k, ontoggle: (event) => event.target.open && fill() }, h("summary", {}, h("span", { class: "entry" }, line)), content);
}

// An element by its axes and, where there are several, by the flat number that certificates use.
function placeOf(network, { op, unit }) {
  const { shape } = network.tensors[op + 1];
  return `[${elementName(shape, unit)}]${shape.filter((n) => n > 1).length > 1 ? ` (unit ${unit})` : ""}`;
}

function whatOf(node) {
  if (node.kind === "split") return `${node.name} ${node.place}, ${node.op < 0 ? "a value" : "an accumulator"} in [${signed(node.lo)}, ${signed(node.hi)}], split at ${signed(node.value)}`;
  return node.empty ? "no input is left here" : KINDS[node.kind][1];
}

// The excess that is proved, as a number and on a small scale around 0.
function excessOf(node) {
  const best = node.bound !== undefined && Number(node.bound) > node.interval ? node.bound : String(node.interval);
  const closed = node.empty || node.interval > 0 || node.closes;
  const size = Math.min(1, Math.abs(Number(best)) / 20) * 30;
  const gauge = s("svg", { class: "gauge", width: 62, height: 10, "aria-hidden": "true" },
    s("path", { class: "axis", d: "M31 0v10" }), s("rect", { class: closed ? "closed" : "open", x: Number(best) < 0 ? 31 - size : 31, y: 2, width: Math.max(1, size), height: 6 }));
  const both = `intervals: at least ${node.interval}${node.bound === undefined ? "" : `; multipliers: at least ${node.bound}`}`;
  return h("span", { class: "excess", title: both }, node.empty ? "" : `excess \u2265 ${signed(best)}`, gauge);
}

// The shape of all trees: a node is as wide as the leaves below it; colour and hatching say how it was closed.
function icicles(tree, children) {
  const leaves = tree.nodes.map(() => 1);
  for (let k = tree.nodes.length - 1; k >= 0; k--) {
    const below = children.get(k) ?? [];
    leaves[k] = below.length ? below.reduce((sum, c) => sum + leaves[c], 0) : (tree.nodes[k].descendants + 2) / 2;
  }
  const roots = children.get(-1) ?? [];
  const total = roots.reduce((sum, k) => sum + leaves[k], 0);
  const blocks = [];
  let deepest = 0;
  const put = (k, x, depth) => {
    deepest = Math.max(deepest, depth);
    const width = (leaves[k] / total) * 100;
    blocks.push(s("rect", { class: tree.nodes[k].kind, x: `${x}%`, y: depth * 9, width: `${width}%`, height: 8 }, s("title", {}, `${tree.conjunctions[tree.nodes[k].conjunction]}: ${whatOf(tree.nodes[k])}`)));
    let at = x;
    for (const child of children.get(k) ?? []) {
      put(child, at, depth + 1);
      at += (leaves[child] / total) * 100;
    }
  };
  let at = 0;
  for (const k of roots) {
    put(k, at, 0);
    at += (leaves[k] / total) * 100;
  }
  return s("svg", { class: "icicles", width: "100%", height: (deepest + 1) * 9, role: "img", "aria-label": `${tree.nodes.length} nodes, ${deepest} splits deep` }, blocks);
}
