"""bvverify decides properties of int8 neural networks, bit for bit.

    import bvverify
    network = bvverify.load("model.onnx")
    result = bvverify.robust(network, image, radius=2)    # image as the model's file takes it
    result = bvverify.verify_property(network, "property.vnnlib")
    network = bvverify.load(module, example_input=images[:1])     # a PyTorch eager-quantised module

A ``Result`` holds the verdict (falsified, unknown, verified), the witness, and what it rests on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The package of loaders first: importing it later would put it in place of the function of its name.
import bvverify.load  # noqa: F401

if TYPE_CHECKING:
    from pathlib import Path

    from bvverify.model.network import Network
    from bvverify.model.result import Result

__version__ = "0.1.0"
__all__ = ["__version__", "load", "robust", "verify_property"]


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


def verify_property(network: Network, property_file: Path | str, **options: Any) -> Result:
    """Decide a VNN-LIB property file; ``options`` are those of ``bvverify.verify.Options``."""
    from pathlib import Path

    from bvverify.load import property_file as reader
    from bvverify.model.query import Query
    from bvverify.verify import Options, decide_all

    cases = reader.read(Path(property_file), network)
    return decide_all([Query(network, box, prop) for box, prop in cases], Options(**options))


def robust(network: Network, x: Any, radius: int, label: int | None = None, **options: Any) -> Result:
    """Decide local robustness around one input ``x``, as the model's file takes it, within ``radius`` integer steps."""
    import numpy as np

    from bvverify.load.arrays import as_model_input
    from bvverify.run.interpreter import quantise_input
    from bvverify.verify import Options, decide, robustness_query

    batch = as_model_input(np.asarray(x), network).values
    return decide(robustness_query(network, quantise_input(network, batch)[0], radius, label), Options(**options))
