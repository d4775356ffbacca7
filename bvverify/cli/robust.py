"""``bvverify robust``: local robustness."""

from __future__ import annotations

from bvverify.cli import options as o

NAME = "robust"


def command(
    model: o.Model,
    source: o.Input,
    radius: o.Radius = None,
    epsilon: o.Epsilon = None,
    clip: o.Clip = None,
    label: o.Label = None,
    semantics: o.Semantics = None,
    accumulator: o.AccumulatorOption = o.Accumulator.EXACT,
    allow_pickle: o.AllowPickle = False,
    engine: o.EngineOption = o.Engine.AUTO,
    solver: o.SolverOption = o.Solver.Z3,
    timeout: o.Timeout = None,
    memory: o.Memory = 4096,
    seed: o.Seed = 0,
    witness: o.SaveWitness = None,
    certificate: o.SaveCertificate = None,
    no_check: o.NoCheck = False,
    trust_solver: o.TrustSolver = False,
    nodes: o.Nodes = None,
    jobs: o.Jobs = None,
    cluster: o.ClusterOption = None,
    dump_smt2: o.Dump = None,
    json: o.Json = False,
) -> int:
    """Decide local robustness around one input.

    Does the class stay the same for every input near this one? The class is the first index of the largest
    output. A radius counts steps of the input's integer grid: for a model that takes pixel/255 and quantises it
    with scale 1/255, one step is one grey level. With a --label that the clean input does not get, the clean
    input itself is the witness.

    Example: bvverify robust model.onnx --input test.npz::7 --radius 2

    Exit codes: 0 verified, 10 falsified, 5 unknown, 1 usage, 2 unreadable or unsupported input, 6 internal
    error.
    """
    from bvverify.cli import decide, question

    return decide.decide(NAME, lambda: question.ask_robust(model, source, radius, epsilon, label, o.whose(semantics, accumulator), clip),
                         engine, timeout, memory, seed, dump_smt2, witness, as_json=json, certificate=certificate, check=not no_check,
                         nodes=nodes, solver=solver, trust_solver=trust_solver, jobs=jobs, cluster=cluster)  # fmt: skip
