"""What a PyTorch module executes for one input: every operator that the dispatcher sees and that reads something made of the input.

A trace of operators, not of Python: whatever the module's ``forward`` looks like (eager, TorchScript, torch.fx), what is recorded is
what ran, with the very tensors and packed weights. A number read out of a tensor (``aten::_local_scalar_dense``), on which
Python could branch, is an operator as well; nobody reads one here, so that it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operator as it ran: ``operator`` is its name (``quantized::linear``), ``where`` the submodule that called it, or its position."""

    operator: str
    where: str
    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    reads: tuple[torch.Tensor, ...]
    result: Any

    @property
    def name(self) -> str:
        """For messages, and for the operation that is made of it."""
        return f"{self.where} ({self.operator})"

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by the name that the operator's schema gives it."""
        for position, declared in enumerate(self.function._schema.arguments):
            if declared.name == name:
                if position < len(self.arguments):
                    return self.arguments[position]
                return self.keywords.get(name, declared.default_value if declared.has_default_value() else default)
        return default

    def again(self, replaced: dict[int, torch.Tensor]) -> Any:
        """The operator run once more, with other tensors in place of those of these ids."""

        def other(value: Any) -> Any:
            return replaced.get(id(value), value) if isinstance(value, torch.Tensor) else value

        arguments, keywords = tree_map(other, (self.arguments, self.keywords))
        with torch.no_grad():
            return self.function(*arguments, **keywords)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The input as the module took it, the steps in order, and what the module returned."""

    input: torch.Tensor
    steps: tuple[Step, ...]
    output: Any


def record(module: torch.nn.Module, x: torch.Tensor) -> Trace:
    """Run the module on ``x`` and record it; whatever the module raises escapes."""
    recorder = _Recorder(x)
    with torch.no_grad(), _named(module, recorder.modules), recorder:
        output = module(x)
    return Trace(x, tuple(recorder.steps), output)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every tensor alive that it has seen, so that an id means one tensor."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {id(x): x}
        self.modules: list[str] = []
        self.steps: list[Step] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; True would import the compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = tree_flatten((args, kwargs or {}))[0]
        reads = tuple(t for t in leaves if isinstance(t, torch.Tensor) and id(t) in self.known)
        if reads:
            where = self.modules[-1] if self.modules and self.modules[-1] else f"operator {len(self.steps) + 1}"
            self.steps.append(Step(func._schema.name, where, func, tuple(args), dict(kwargs or {}), reads, result))
            self.known.update((id(t), t) for t in tree_flatten(result)[0] if isinstance(t, torch.Tensor))
        return result


@contextmanager
def _named(module: torch.nn.Module, stack: list[str]) -> Iterator[None]:
    """The names of the submodules that are running, innermost last; a TorchScript module takes no hooks and stays nameless."""

    def left(_module: Any, _given: Any, _result: Any) -> None:
        stack.pop()

    handles = []
    if not isinstance(module, torch.jit.ScriptModule):
        for name, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(lambda _m, _x, name=name: stack.append(name)))
            handles.append(part.register_forward_hook(left))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
