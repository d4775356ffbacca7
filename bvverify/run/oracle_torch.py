"""PyTorch as an oracle: the very modules that networks were read from, kept in memory, run under the engine that they were read for.

A module file is executable (a pickle), so that nothing is loaded here: who loads a network (``bvverify.load.torch_module``) leaves the
module with ``remember``. A module runs on one input at a time, since some of PyTorch's operators look at the number of elements.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np

from bvverify.errors import UnsupportedError
from bvverify.model.network import Network
from bvverify.model.result import Replay
from bvverify.model.types import AnyArray
from bvverify.run.oracle import held_against, not_asked

_MOST = 16
_modules: OrderedDict[tuple[str, str], Any] = OrderedDict()
"""By the network's SHA-256 and its semantics, the last ones used."""


@contextmanager
def engine(name: str) -> Iterator[None]:
    """PyTorch with this engine selected, on one thread; ``UnsupportedError`` where its build does not have it."""
    import torch

    backend = torch.backends.quantized
    if name not in backend.supported_engines:
        raise UnsupportedError(f"this PyTorch ({torch.__version__}) has no engine {name}; it has {', '.join(backend.supported_engines)}")
    before, threads = backend.engine, torch.get_num_threads()
    backend.engine = name
    torch.set_num_threads(1)
    try:
        # Said once a process, of every quantised tensor; whoever has such a module knows.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
            # From here, since TorchScript would print it without asking Python.
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
            yield
    finally:
        backend.engine = before
        torch.set_num_threads(threads)


def engine_of(semantics: str) -> str:
    """The engine that a profile's name stands for."""
    return semantics.replace(",", ":").partition(":")[0].removeprefix("pytorch-")


def remember(network: Network, module: Any) -> None:
    """Keep the module that a network was read from; it has been packed for the network's engine."""
    _modules[network.provenance.sha256, network.semantics] = module
    _modules.move_to_end((network.provenance.sha256, network.semantics))
    while len(_modules) > _MOST:
        _modules.popitem(last=False)


def module_of(network: Network) -> Any | None:
    """The module that a network was read from, where this process still has it."""
    return _modules.get((network.provenance.sha256, network.semantics))


def call(module: Any, semantics: str, x: AnyArray) -> AnyArray:
    """The module's output for one input (its batch axis of 1 included): float32, or the integers of a quantised tensor."""
    import torch

    with torch.no_grad(), engine(engine_of(semantics)):
        y = module(torch.from_numpy(np.array(x, np.float32, order="C")))
    return np.asarray((y.int_repr() if y.is_quantized else y).contiguous().numpy())


def ask(network: Network, given: AnyArray) -> AnyArray:
    """The module's outputs for a batch ``given`` (batch, *the file's shape), one input at a time; ``KeyError`` when it is gone."""
    module = _modules[network.provenance.sha256, network.semantics]
    shape = network.input.file_shape
    return np.concatenate([call(module, network.semantics, x.reshape(shape)) for x in given])


def replay(network: Network, given: AnyArray, declared: AnyArray) -> tuple[Replay, ...]:
    """What PyTorch makes of one input (the file's shape, batch axis included), held against ``declared`` (1, ...)."""
    if module_of(network) is None:
        return ()
    version, shape, runtime = metadata.version("torch"), network.input.file_shape, f"pytorch ({engine_of(network.semantics)})"
    why = not_asked(network)
    if why:
        return (Replay(runtime, version, None, f"not asked: {why}"),)
    return (held_against(runtime, version, ask(network, given.reshape(1, *shape[1:])), declared),)
