"""The facts about a result in plain English; every number in a sentence is one of the facts."""

from __future__ import annotations

from bvverify.explain.answer import Explanation
from bvverify.explain.saved import Saved
from bvverify.model.network import Network

_PROVED = {
    "interval": "Exact integer intervals proved it: on the box, no output can take a value that violates the property.",
    "linear": "One pass of exact linear bounds proved it, of what intervals alone left open.",
    "root": "Lagrangian bounds proved it on the whole box, without a split.",
    "search": "Branch and bound proved it: the box was split at neurons' thresholds, and each part was bounded above zero.",
    "solver": "The bit-vector solver proved it: it answers that no input violates the property.",
}
_REFUTED = {
    "clean input": "The clean input itself violates the property; nothing had to be searched for.",
    "root": "The search met a witness at its root: near an input that the bound of the whole box points to.",
    "attack": "The attack met a witness: projected gradients, then an integer local search.",
    "search": "Branch and bound met a witness: near an input that the bound of a subproblem points to.",
    "solver": "The bit-vector solver gave a witness.",
}
_RAN_OUT = {
    "time": "The time limit ran out",
    "nodes": "The limit of nodes ran out",
    "interrupt": "It was interrupted",
    "solver": "The bit-vector solver gave up",
    "proof": "Nothing proves what a solver closed",
    "stages": "All stages that were asked for ended",
}


def question(saved: Saved, facts: Explanation) -> list[str]:
    """What was asked."""
    where = f"every input of a box in which {facts.box}"
    if saved.property is not None:
        boxes = f"{facts.boxes} boxes; the numbers below are of one of them, " if facts.boxes > 1 else ""
        return [f"{saved.property} asks about {boxes}{where}."]
    reach = (
        f"{saved.radius} integer step{'' if saved.radius == 1 else 's'}" if saved.epsilon is None else f"{saved.epsilon} (a real number)"
    )
    clip = "" if saved.clip is None else f", their values within [{saved.clip}]"
    return [f"It is about {where}: those within {reach} of {saved.input}{clip}."]


def decided(saved: Saved) -> list[str]:
    """Which stage decided."""
    if saved.verdict == "unknown":
        return [f"Nobody. {saved.reason[:1].upper()}{saved.reason[1:]}."]
    known = _PROVED if saved.verdict == "verified" else _REFUTED
    return [known.get(saved.stage, f"The stage {saved.stage} decided.")]


def left_open(saved: Saved, facts: Explanation) -> list[str]:
    """What *unknown* leaves open, and how far from deciding the bound was."""
    if saved.verdict != "unknown":
        return []
    o = saved.open
    if o is None:
        return ["The file does not say what was open: an earlier bvverify wrote it."]
    lines = [f"{_RAN_OUT.get(o.ran_out, o.ran_out)} with {o.violations} of {o.total} ways to violate the property not excluded."]
    if o.subproblems is not None:
        lines.append(f"The search had bounded {saved.nodes} subproblems and left {o.subproblems} open.")
    if o.bound is not None:
        lines.append(f"The worst of them is bounded at {o.bound:.3g} output steps; above 0 it would be closed.")
    margins = [m for m in facts.margins if m.least_margin is not None and m.least_margin <= 0]
    if margins:
        worst = min(margins, key=lambda m: m.least_margin or 0)
        lines.append(
            f"Before any split, linear bounds leave {len(margins)} of the other classes open; the worst is class {worst.output},"
            f" over which they guarantee a lead of {worst.least_margin} only."
        )
    return lines


def advice(saved: Saved) -> list[str]:
    """Which options are likely to decide it."""
    if saved.verdict != "unknown":
        return []
    if saved.command == "attack":
        return ["attack proves nothing: bvverify robust or verify asks the same question and can."]
    stages = {c.stage for c in saved.costs}
    lines = []
    o = saved.open
    if "search" not in stages and "root" not in stages and "solver" in stages:
        lines.append("Leave out --engine smt: bounds and branch and bound decide far larger questions than the solver alone.")
    match o.ran_out if o is not None else "":
        case "time":
            close = o is not None and o.bound is not None and o.bound > -1
            lines.append("A longer --timeout" + (": less than one output step is missing." if close else "."))
        case "interrupt":
            lines.append("The same command again, left to run; --timeout ends it in time.")
        case "nodes":
            lines.append("A larger --nodes, or none at all.")
        case "solver":
            lines.append("A longer --timeout and more --memory for the solver.")
        case "proof":
            lines.append("The extra bvverify[proofs] where it is missing, more --memory; or --trust-solver takes the solver's word.")
        case _:
            lines.append("All stages, and a longer --timeout.")
    if o is not None and o.bound is not None and o.bound <= -10:
        lines.append(
            "The bound is far from closing: more time alone will hardly prove it; bvverify attack with other --seed may refute it."
        )
    if saved.property is None:
        lines.append("A smaller radius: this answer says nothing about it.")
    return lines


def changed(facts: Explanation) -> list[str]:
    """What the witness changes."""
    assert facts.changes is not None
    before, after = facts.classes
    result = f"class {after} instead of {before}" if after != before else f"the class stays {before}"
    if not facts.changes:
        return [f"It is the clean input itself; its class is {before}."]
    most = max(abs(c.after - c.before) for c in facts.changes)
    return [f"{len(facts.changes)} of {facts.inputs} input values change, by up to {most} steps: {result}."]


def outputs(facts: Explanation) -> str:
    """How to read the table of outputs."""
    if facts.label is None:
        return "Their values at the middle of the box, and the range that intervals and linear bounds allow on all of it:"
    return (
        f"A margin is output {facts.label}'s lead over another; a tie goes to the first index."
        " Least and largest are what exact intervals and linear bounds allow on the whole box, and the least margin what linear bounds"
        " guarantee of it:"
    )


def tree(saved: Saved, facts: Explanation, network: Network) -> list[str]:
    """The size and shape of the proof's tree, or what is known of it."""
    t = facts.tree
    if t is None:
        if saved.checked is not None:
            c = saved.checked
            total = c.interval_leaves + c.bound_leaves + c.solver_leaves + c.proved_leaves
            return [f"{c.splits} splits and {total} leaves; saved with --certificate, its shape could be shown."]
        return [f"The search bounded {saved.nodes} subproblems."] if saved.nodes else ["No subproblem was needed: nothing was split."]
    leaves = ", ".join(f"{count} closed by {'the solver' if kind == 'solver' else kind + 's'}" for kind, count in t.leaves)
    lines = [f"{t.trees} trees, one for each way to violate the property: {t.splits} splits; leaves: {leaves}."]
    if t.splits:
        lines.append(f"The longest path has {t.deepest} splits, of 2^{t.deepest} parts that splitting everywhere would make.")
        where = [f"{count} of {'the input' if layer == 0 else network.tensors[layer].name}" for layer, count in t.split_layers]
        lines.append(f"Split were {', '.join(where)}.")
    return lines


def trust(saved: Saved, network: Network) -> list[str]:
    """What has been checked by whom, and what is left to trust."""
    stripped = network.output.stripped
    lines = []
    if saved.verdict == "verified":
        c = saved.checked
        if c is None:
            lines.append("Checked: nothing. The kernel was not asked (--no-check), so that the bounds and the search are trusted.")
        else:
            lines.append(
                f"Checked by the kernel, in exact integers: {c.claims} claims about accumulators, {c.splits} splits,"
                f" {c.interval_leaves + c.bound_leaves} leaves. The bounds, the search and all floats need no trust."
            )
            again = " and ".join(f"bvverify check {name}" for name in saved.certificates)
            lines.append(
                f"So says the file; {again} does it again." if again else "So says the file; with --certificate it could be done again."
            )
        if c is not None and c.proved_leaves:
            lines.append(
                f"Checked besides: {c.proved_leaves} leaves that a solver closed, by proofs in clauses; trusted of these are the"
                " translation into clauses and the checker of proofs."
            )
        if c is not None and c.solver_leaves:
            lines.append(f"Not checked: {c.solver_leaves} leaves rest on the word of the bit-vector solver.")
        lines.append("Trusted: the kernel, the loader, the model's thresholds, the interpreter, NumPy.")
    elif saved.verdict == "falsified":
        lines.append("Checked: the interpreter computed the witness's outputs, in exact integers, and did so again just now.")
        for r in saved.replays or ():
            how = "agreed with every output" if r.agreed else f"was not asked: {r.detail}" if r.agreed is None else "disagreed"
            lines.append(f"{r.runtime} {r.version} {how}.")
        if not saved.replays:
            lines.append("No runtime is named in the file: bvverify replay asks those that are installed." if saved.replays is None
                         else "No runtime was installed that ships this model, or there is none.")  # fmt: skip
        alone = " Where a runtime agreed, it alone is enough." if any(r.agreed for r in saved.replays or ()) else ""
        lines.append(f"Trusted: the loader and the interpreter.{alone}")
    else:
        lines.append("Nothing is claimed, so that nothing has to be trusted.")
    lines.append(f"The answer is about {saved.semantics}; another runtime's arithmetic is another function (bvverify compare).")
    if stripped is not None:
        lines.append(f"It is about what the final {stripped} of the model reads.")
    return lines
