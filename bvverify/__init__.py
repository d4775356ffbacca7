"""bvverify decides properties of int8 neural networks, bit for bit.

    import bvverify
    network = bvverify.load("model.onnx")
    result = bvverify.robust(network, image, radius=2)    # image as the model's file takes it
    result = bvverify.verify(network, "property.vnnlib", timeout=60)
    ends = bvverify.radius(network, image)                # the largest radius that verifies, the smallest that falsifies
    network = bvverify.load(module, example_input=images[:1])     # a PyTorch eager-quantised module

A ``Result`` holds the ``Verdict``, the witness, and what it rests on. Options by name are those of ``Options``: timeout, seed, engine ...
Nothing is imported before it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The package of loaders first: importing it later would put it in place of the function of its name.
import bvverify.load  # noqa: F401
from bvverify._version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from bvverify.model.network import Network
    from bvverify.model.result import Result, Verdict
    from bvverify.pipeline import Options
    from bvverify.radii import Ends

__all__ = ["Ends", "Options", "Result", "Verdict", "__version__", "load", "radius", "robust", "verify"]

_CLASSES = {"Ends": "radii", "Options": "pipeline", "Result": "model.result", "Verdict": "model.result"}


def __getattr__(name: str) -> Any:
    if name in _CLASSES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(model: Any, example_input: Any = None, semantics: str | None = None, *, allow_pickle: bool = False) -> Network:
    """The network of a model file or of a PyTorch eager-quantised module, read under ``semantics`` (None: what the model implies).

    ``model`` is a path, or a ``torch.nn.Module`` together with ``example_input``, one input as the module takes it (batch axis first).
    A PyTorch file is a pickle, which can run any code: ``allow_pickle`` opens it.
    """
    from pathlib import Path

    from bvverify.load import load as reader

    if isinstance(model, str | Path):
        # A second argument of text is the semantics of a file.
        if isinstance(example_input, str) and semantics is None:
            example_input, semantics = None, example_input
        return reader.load(model, semantics, allow_pickle=allow_pickle)
    return reader.load_object(model, example_input, semantics)


def verify(network: Network, property_file: Path | str, **options: Any) -> Result:
    """Decide a VNN-LIB property file.

    Raises ``InputError`` for a file that cannot be read, ``InternalError`` when bvverify contradicts itself; ``options`` are ``Options``.
    """
    from pathlib import Path

    from bvverify.load import property_file as reader
    from bvverify.model.query import Query
    from bvverify.pipeline import Options, decide_all

    cases = reader.read(Path(property_file), network)
    return decide_all([Query(network, box, prop) for box, prop in cases], Options(**options))


def robust(network: Network, x: Any, radius: int, label: int | None = None, **options: Any) -> Result:
    """Decide local robustness around one input ``x``, as the model's file takes it, within ``radius`` integer steps of every element.

    ``label`` is the class to keep (None: the network's own answer). Raises ``UsageError`` for an input, a radius or a label that the
    network cannot have, ``InternalError`` when bvverify contradicts itself; ``options`` are ``Options``.
    """
    from bvverify.pipeline import Options, decide, robustness_query

    return decide(robustness_query(network, _integers(network, x), radius, label), Options(**options))


def radius(
    network: Network, x: Any, label: int | None = None, target: int | None = None, maximum: int | None = None, **options: Any
) -> Ends:
    """The largest radius around ``x`` that verifies, and the smallest that falsifies: ``verified`` and ``falsified`` of ``Ends``.

    ``label`` is the class to keep, ``target`` instead one not to get, ``maximum`` the largest radius to ask about; errors and options as
    of ``robust``.
    """
    from bvverify.pipeline import Options
    from bvverify.radii import Around, find

    return find(Around.of(network, _integers(network, x), label, target), maximum, Options(**options))


def _integers(network: Network, x: Any) -> Any:
    """One input, as the model's file takes it, as what the first operation reads."""
    import numpy as np

    from bvverify.load.arrays import as_model_input
    from bvverify.run.interpreter import quantise_input

    return quantise_input(network, as_model_input(np.asarray(x), network).values)[0]
