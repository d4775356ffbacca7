"""A PyTorch eager-quantised module to a network: traced on one input, read operator by operator, compared with the module on others.

The network is what the module computes for one input at a time (a batch of 1). A Python object is copied first, so that its weights
are packed for the engine of the profile; the copy is also the oracle (``bvverify.run.oracle_torch``).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
import torch

from bvverify.errors import InputError, UnsupportedError, UsageError
from bvverify.load import torch_layers as layers
from bvverify.load.profile import PyTorch
from bvverify.load.torch_trace import Step, Trace, record
from bvverify.load.torch_values import FloatInput, Integers, Reader, Reals, Value, meaning_of
from bvverify.model.box import dequantise
from bvverify.model.network import Input, Network, Output, Provenance
from bvverify.model.ops import Transpose
from bvverify.model.types import UINT8, AnyArray, Float32Array, Quantisation, Tensor
from bvverify.run import interpreter, oracle, oracle_torch

_COMPARED = 24
"""Random inputs on which the network has to equal the module, tensor by tensor, before it is handed out."""
_ELEMENTWISE = frozenset(
    ("aten::relu", "aten::relu_", "quantized::relu6", "aten::hardtanh", "aten::hardtanh_", "aten::clamp", "aten::clamp_", "aten::sigmoid",
     "quantized::sigmoid", "aten::tanh", "quantized::hardswish", "aten::hardsigmoid", "quantized::leaky_relu", "aten::leaky_relu",
     "aten::leaky_relu_", "quantized::elu", "aten::elu", "quantized::celu", "aten::gelu", "quantized::add_scalar", "quantized::mul_scalar",
     "aten::threshold", "quantized::threshold")
)  # fmt: skip
_RESHAPES = frozenset(
    ("aten::view", "aten::_unsafe_view", "aten::_reshape_alias", "aten::reshape", "aten::squeeze", "aten::unsqueeze", "aten::alias",
     "aten::detach", "aten::clone", "aten::contiguous")
)  # fmt: skip
_LOGITS = frozenset(("aten::_softmax", "aten::_log_softmax", "aten::argmax"))


def load_object(module: torch.nn.Module, example: Any, profile: PyTorch | None) -> Network:
    """The network of a Python object; without a profile, under the engine that PyTorch has selected.

    ``example`` is an input as the module takes it, batch axis first (an array or a tensor; its first element is taken).
    """
    label = type(module).__name__
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"a model is a path or a torch.nn.Module, not {label}")
    if example is None:
        raise UsageError(f"{label}: a PyTorch module does not say what it takes; give example_input, batch axis first")
    values = np.asarray(example.detach().cpu().numpy() if isinstance(example, torch.Tensor) else example)
    if values.ndim < 2 or not len(values) or values.dtype.kind not in "fiub" or not np.isfinite(values).all():
        raise UsageError(f"{label}: example_input of shape {values.shape} is no batch of finite inputs; its first axis is the batch")
    x = values[:1].astype(np.float32)
    selected = torch.backends.quantized.engine
    chosen = profile or PyTorch({"x86": "fbgemm"}.get(selected, selected))
    if chosen.engine not in ("fbgemm", "qnnpack"):
        raise UnsupportedError(
            f"{label}: engine {selected} chooses its arithmetic by shape; name semantics='pytorch-fbgemm' or 'pytorch-qnnpack'"
        )
    with oracle_torch.engine(chosen.engine):
        packed = _copy(module).eval()
        trace = traced(label, packed, x)
    if profile is None:
        _check_engine(label, module, packed, chosen, trace, selected, x)
    return network_of(label, packed, trace, dataclasses.replace(chosen, input_shape=()), None)


def network_of(label: str, module: torch.nn.Module, trace: Trace, profile: PyTorch, sha256: str | None) -> Network:
    """The network that a trace of the module is, once it has been compared with the module; ``sha256`` None: of the network itself."""
    here = _of_this_cpu(profile)
    try:
        r, network = _network(label, trace, here, sha256)
    except UnsupportedError:
        if here == profile:
            raise
        here = profile
        r, network = _network(label, trace, here, sha256)
    _check(r, network, module, trace)
    if here != profile:
        _, network = _network(label, trace, profile, sha256)
    oracle_torch.remember(network, module)
    return network


def _of_this_cpu(profile: PyTorch) -> PyTorch:
    """The same with the accumulator that this CPU has: under it the module can be compared with what is read."""
    exact = oracle.sums_exactly(str(profile))
    return profile if exact is None else dataclasses.replace(profile, saturating_pairs=not exact)


def _network(label: str, trace: Trace, profile: PyTorch, sha256: str | None) -> tuple[Reader, Network]:
    """The trace read under a profile."""
    r = Reader(label, profile.engine, saturating_pairs=profile.saturating_pairs)
    with oracle_torch.engine(profile.engine):
        output = _read(r, trace)
    assert r.quantiser is not None
    parts = (Input(r.tensors[0], tuple(trace.input.shape), r.quantiser), tuple(r.ops), tuple(r.tensors), output)
    made = Provenance(label, "torch", str(profile), sha256 or _digest(parts))
    try:
        return r, Network(*parts, made)
    except ValueError as error:
        raise UnsupportedError(f"{label}: {error}") from error


def _read(r: Reader, trace: Trace) -> Output:
    """All steps, in order; and the output."""
    r.values[id(trace.input)] = FloatInput(tuple(trace.input.shape[1:]))
    for number, step in enumerate(trace.steps):
        value = _step(r, step)
        if _in_place(step):
            _forget_aliases(r, step)
        r.values[id(step.result)] = value
        r.storages[id(step.result)] = _storage(step)
        if isinstance(value, Integers):
            r.made.append((number, value.index))
    result = trace.output
    match r.values.get(id(result)) if isinstance(result, torch.Tensor) else None:
        case Integers(index=index):
            return Output(index, tuple(result.shape))
        case Reals(integers=integers, meaning=meaning):
            return Output(integers.index, tuple(result.shape), meaning)
        case FloatInput() | None:
            raise UnsupportedError(
                f"{r.label}: returns {type(result).__name__} that no quantised operator made of the input; return one tensor"
            )


def _forget_aliases(r: Reader, step: Step) -> None:
    """An operator in place changes every view of its storage: nobody may read the others afterwards."""
    for key, storage in r.storages.items():
        if key != id(step.result) and storage == _storage(step):
            r.values.pop(key, None)


def _in_place(step: Step) -> bool:
    return any(step.result is t for t in step.reads)


def _storage(step: Step) -> int:
    """Where the result lives; a trace keeps all its tensors, so that no two share a place but by aliasing."""
    return int(step.result.untyped_storage().data_ptr())


def _step(r: Reader, step: Step) -> Value:
    operator, result = step.operator, step.result
    if operator == "aten::quantize_per_tensor":
        return _quantise(r, step)
    if operator in _LOGITS:
        raise r.unsupported(step, "bvverify verifies the logits: end the module before it")
    if operator == "aten::_local_scalar_dense":
        raise r.unsupported(
            step, "reads a number out of a tensor, on which the module could branch; bvverify reads modules without branches"
        )
    if not isinstance(result, torch.Tensor):
        raise r.unsupported(step, f"makes {type(result).__name__}, not a tensor")
    value = r.values.get(id(step.reads[0]))
    if operator in _RESHAPES:
        return _reshaped(r, step, value)
    if operator == "aten::dequantize" and isinstance(value, Integers):
        meaning = meaning_of(step.reads[0])
        assert meaning is not None
        return Reals(value, meaning)
    for x in step.reads:
        r.integers(step, x)
    if result.dtype != torch.quint8 or result.qscheme() != torch.per_tensor_affine:
        raise r.unsupported(step, f"makes {result.dtype}; bvverify reads quint8 activations, quantised per tensor")
    return _quantised(r, step)


def _quantised(r: Reader, step: Step) -> Value:
    """An operator from quint8 tensors to a quint8 tensor."""
    match step.operator:
        case "quantized::linear" | "quantized::linear_relu" as name:
            return layers.linear(r, step, relu=name.endswith("relu"))
        case "quantized::conv2d" | "quantized::conv2d_relu" as name:
            return layers.convolution(r, step, relu=name.endswith("relu"))
        case "quantized::add" | "quantized::add_relu" as name:
            return layers.addition(r, step, relu=name.endswith("relu"))
        case "quantized::cat" | "quantized::cat_relu" | "aten::cat":
            return layers.concatenation(r, step)
        case "aten::quantized_max_pool2d":
            return layers.max_pool(r, step)
        case "aten::avg_pool2d":
            return layers.average(r, step)
        case "aten::_adaptive_avg_pool2d":
            return layers.adaptive_average(r, step)
        case "aten::permute" | "aten::transpose":
            return _transposed(r, step)
        case name if name in _ELEMENTWISE:
            return layers.elementwise(r, step)
        case _:
            raise r.unsupported(step, "is not among the operators that bvverify reads exactly")


def _quantise(r: Reader, step: Step) -> Integers:
    result = step.result
    match r.values.get(id(step.reads[0])):
        case FloatInput(shape=shape) if r.quantiser is None:
            pass
        case FloatInput():
            raise r.unsupported(step, "quantises the input a second time; quantise it once")
        case _:
            raise r.unsupported(step, "quantises floats that a DeQuantize made; leave both out")
    if result.dtype != torch.quint8:
        raise r.unsupported(step, f"makes {result.dtype}; bvverify reads quint8 activations")
    meaning = meaning_of(result)
    assert meaning is not None
    if not 1e-30 < meaning.scale < 1e30:
        raise r.unsupported(step, f"has the scale {meaning.scale:g}, at which float32 arithmetic under- or overflows")
    r.quantiser = Quantisation(meaning.scale, meaning.zero_point, "multiply-add-half-even")
    r.tensors.append(Tensor(step.name, shape, UINT8, meaning))
    return Integers(0)


def _reshaped(r: Reader, step: Step, value: Value | None) -> Value:
    shape = r.shape(step, step.result)
    match value:
        case FloatInput():
            return FloatInput(shape)
        case Integers():
            return layers.moved(r, step, value, shape, step.name)
        case Reals(integers=integers, meaning=meaning):
            return Reals(layers.moved(r, step, integers, shape, step.name), meaning)
        case None:
            raise r.unsupported(step, "reads a tensor that another operator has changed in place")


def _transposed(r: Reader, step: Step) -> Integers:
    x, operand = r.operand(step)
    axes = list(range(x.dim()))
    if step.operator == "aten::transpose":
        a, b = (int(step.argument(n)) % x.dim() for n in ("dim0", "dim1"))
        axes[a], axes[b] = axes[b], axes[a]
    else:
        axes = [int(d) % x.dim() for d in step.argument("dims")]
    if axes[0] != 0:
        raise r.unsupported(step, "moves the batch axis")
    op = Transpose(step.name, operand.index, tuple(a - 1 for a in axes[1:]))
    return r.add(step, op, r.shape(step, step.result), operand.lo, operand.hi)


def traced(label: str, module: torch.nn.Module, x: Float32Array) -> Trace:
    """The module recorded on one input; ``InputError`` where it raises."""
    try:
        return record(module, torch.from_numpy(x.copy()))
    # A module's forward is anybody's code, and it may raise anything.
    except Exception as error:
        raise InputError(f"{label}: cannot be run on an input of shape {x.shape[1:]}: {line(error)}") from error


def _check(r: Reader, network: Network, module: torch.nn.Module, trace: Trace) -> None:
    """Random inputs through the module, traced again: the same operators, and at each of them the integers of the interpreter."""
    rng = np.random.default_rng(0)
    quantiser, tensor = network.input.quantiser, network.input.tensor
    assert quantiser is not None
    x = rng.integers(0, 256, (_COMPARED, *tensor.shape))
    x[: _COMPARED // 3] = x[: _COMPARED // 3] // 4 + rng.integers(0, 193, (_COMPARED // 3, *(1,) * len(tensor.shape)))
    for given in x:
        tensors = interpreter.trace(network, given[None])
        with oracle_torch.engine(r.engine):
            again = traced(r.label, module, dequantise(given, quantiser).reshape(network.input.file_shape))
        if [s.operator for s in again.steps] != [s.operator for s in trace.steps]:
            raise UnsupportedError(f"{r.label}: runs other operators on other inputs; bvverify reads modules without branches")
        for number, index in r.made:
            step, expected = again.steps[number], tensors[index]
            if any(_in_place(s) and _storage(s) == _storage(step) for s in again.steps[number + 1 :]):
                continue  # changed since it was made
            got = step.result.int_repr().numpy().reshape(expected.shape)
            if not np.array_equal(got, expected):
                raise _differs(r, step, got, expected)
        declared = interpreter.declared_output(network, tensors[network.output.tensor])
        if not np.array_equal(_plain(again.output).numpy(), declared):
            raise UnsupportedError(f"{r.label}: returns something else than its last quantised tensor; return it as it is")


def _differs(r: Reader, step: Step, got: AnyArray, expected: AnyArray) -> UnsupportedError:
    first = int((got != expected).argmax())
    why = f"element {first} is {got.ravel()[first]} in PyTorch and {expected.ravel()[first]} in the model of {r.engine}"
    return r.unsupported(step, f"{why}; on this CPU the engine is another function, or the module keeps a state")


def _check_engine(
    label: str, module: torch.nn.Module, packed: torch.nn.Module, chosen: PyTorch, trace: Trace, selected: str, x: Float32Array
) -> None:
    """Whether the module as it is, under the engine that is selected, is the one that is read."""
    mend = f"{label}: name the engine that it is read for, semantics='pytorch-fbgemm' or 'pytorch-qnnpack'"
    if selected == "x86":
        for step in trace.steps:
            if step.operator.startswith("quantized::conv"):
                raise UnsupportedError(f"{mend}: engine x86 chooses the arithmetic of {step.name} by its shape")
    rng = np.random.default_rng(1)
    for scale in np.linspace(0, 3, _COMPARED, dtype=np.float32):
        given = x + scale * rng.normal(size=x.shape).astype(np.float32)
        with oracle_torch.engine(selected):
            theirs = traced(label, module, given)
        with oracle_torch.engine(chosen.engine):
            ours = traced(label, packed, given)
        for step, other in zip(theirs.steps, ours.steps, strict=False):
            if not isinstance(step.result, torch.Tensor) or not torch.equal(_plain(step.result), _plain(other.result)):
                raise UnsupportedError(f"{mend}: {step.name} was not converted for {selected}, which is selected now")


def _plain(t: torch.Tensor) -> torch.Tensor:
    return t.int_repr() if t.is_quantized else t


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose weights are packed for the engine that is selected: packing happens when a packed weight is set up."""
    if not isinstance(module, torch.jit.ScriptModule):
        return copy.deepcopy(module)
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    loaded: torch.nn.Module = torch.jit.load(buffer)  # type: ignore[no-untyped-call]
    return loaded


def _digest(parts: Any) -> str:
    """SHA-256 of everything that a network is made of: geometry, names, weights, requantisations."""
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        elif dataclasses.is_dataclass(value):
            digest.update(type(value).__name__.encode())
            for field in dataclasses.fields(value):
                feed(getattr(value, field.name))
        elif isinstance(value, tuple | list):
            digest.update(f"({len(value)}".encode())
            for item in value:
                feed(item)
        else:
            digest.update(f"{value!r};".encode())

    feed(parts)
    return digest.hexdigest()


def line(error: Exception) -> str:
    """What an exception says, as one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__
