"""VNN-LIB 2.x through the ``vnnlib`` package, which reads and type-checks the language.

What the package accepts without a word and this reader refuses: element types that do not exist, constants that a declared integer type
cannot hold. One network with one input and one output is read; hidden nodes and further networks are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from bvverify.errors import UnsupportedError
from bvverify.load import vnnlib1
from bvverify.load.formula import Formula, Variable
from bvverify.load.sexpr import Node, SyntaxProblem, clipped, parse
from bvverify.model.network import Network

_BRACKET = re.compile(r"\[[\d, \t]*\]")
_TYPES = {
    "real": None, "Real": None, "float16": None, "float32": None, "float64": None, "bfloat16": None,
    "int8": (-(1 << 7), (1 << 7) - 1), "int16": (-(1 << 15), (1 << 15) - 1), "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1), "uint8": (0, (1 << 8) - 1), "uint16": (0, (1 << 16) - 1), "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}  # fmt: skip
"""Element types and the range of the integer ones."""


def read(text: str, network: Network) -> tuple[set[Variable], Formula]:
    """The declared variables and the violation; ``SyntaxProblem`` says what is wrong."""
    _check_with_package(text)
    nodes = _nodes(text)
    names = _declarations(nodes, network)
    lines = [_flattened(node, names) for node in nodes if node.head == "assert"]
    declared = [
        Node(1, items=(Node(1, "declare-const"), Node(1, f"{kind}_{i}"), Node(1, "Real")))
        for kind, shape, _ in names.values()
        for i in range(_size(shape))
    ]
    return vnnlib1.read_nodes([*declared, *lines])


def tensors(text: str) -> list[tuple[str, str, str, tuple[int, ...]]] | None:
    """Of a file that ``read`` takes: X or Y, the name, the element type and the shape of each tensor, as declared; None in version 1."""
    if not is_version_2(text):
        return None
    (network,) = (node for node in _nodes(text) if node.head == "declare-network")
    declared = [node.items for node in (network.items or ())[2:] if node.items]
    return [("X" if i[0].text == "declare-input" else "Y", i[1].text, i[2].text, _shape(i[3])) for i in declared]


def _nodes(text: str) -> list[Node]:
    """The file's expressions; ``[1, 2]`` is one atom as ``[1,2]`` is."""
    return parse(_BRACKET.sub(lambda found: "".join(found[0].split()), text))


def is_version_2(text: str) -> bool:
    """Whether a property file says that it is of version 2."""
    return "(vnnlib-version" in text


def _check_with_package(text: str) -> None:
    import vnnlib

    try:
        vnnlib.parse_query_string(text)
    # The package's exceptions derive from Exception alone.
    except Exception as error:
        raise SyntaxProblem(f"line 1: the vnnlib package refuses the file: {clipped(' '.join(str(error).split()), 400)}") from error


def _declarations(nodes: Sequence[Node], network: Network) -> dict[str, tuple[str, tuple[int, ...], tuple[int, int] | None]]:
    """Name of each declared tensor: X or Y, its shape, the range of its integer type (None for reals)."""
    networks = [node for node in nodes if node.head == "declare-network"]
    for node in nodes:
        if node.head not in ("vnnlib-version", "declare-network", "assert"):
            raise UnsupportedError(f"line {node.line}: {clipped(node.head or node.text)!r} is not read; one network and assertions are")
    if len(networks) != 1:
        raise UnsupportedError(f"line 1: {len(networks)} networks are declared; bvverify decides about one")
    names: dict[str, tuple[str, tuple[int, ...], tuple[int, int] | None]] = {}
    for node in (networks[0].items or ())[2:]:
        if node.head not in ("declare-input", "declare-output"):
            raise UnsupportedError(f"line {node.line}: {clipped(node.head)} is not read; one input and one output are")
        items = node.items or ()
        if len(items) < 4 or items[2].text not in _TYPES:
            raise SyntaxProblem(f"line {node.line}: {clipped(items[2].text) if len(items) > 2 else 'nothing'!r} is no element type")
        kind = "X" if node.head == "declare-input" else "Y"
        if kind in {k for k, _, _ in names.values()}:
            raise UnsupportedError(f"line {node.line}: a second {'input' if kind == 'X' else 'output'}; bvverify takes one of each")
        _check_element_type(node, network, items[2].text, reads=kind == "X")
        shape = _shape(items[3])
        wanted = network.input.tensor.size if kind == "X" else network.output_tensor.size
        if _size(shape) != wanted:
            raise SyntaxProblem(f"line {node.line}: {clipped(items[1].text)} has {_size(shape)} elements, the network's has {wanted}")
        names[items[1].text] = (kind, shape, _TYPES[items[2].text])
    if {k for k, _, _ in names.values()} != {"X", "Y"}:
        raise SyntaxProblem(f"line {networks[0].line}: the network declares no input or no output")
    return names


def _check_element_type(node: Node, network: Network, declared: str, *, reads: bool) -> None:
    """The standard: element types are those of the ONNX file, or real, which leaves them open."""
    if network.provenance.format != "onnx" or declared in ("real", "Real"):
        return
    floats = (network.input.quantiser if reads else network.output.dequantiser) is not None
    qtype = network.input.tensor.qtype if reads else network.output_tensor.qtype
    file = "float32" if floats else f"{'' if qtype.signed else 'u'}int{qtype.bits}"
    if declared != file:
        what = "takes" if reads else "makes"
        raise SyntaxProblem(f"line {node.line}: {declared} is declared, but the model {what} {file}; declare that, or real")


def _shape(node: Node) -> tuple[int, ...]:
    text = node.text if node.items is None else "[" + ",".join(i.text for i in node.items) + "]"
    body = text.strip("[]")
    parts = [p for p in body.split(",") if p] if body else []
    if not text.startswith("[") or not all(p.isdigit() and 0 < int(p) < 1 << 31 for p in parts):
        raise SyntaxProblem(f"line {node.line}: {clipped(text)!r} is no shape")
    return tuple(int(p) for p in parts)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for d in shape:
        size *= d
    return size


def _flattened(node: Node, names: dict[str, tuple[str, tuple[int, ...], tuple[int, int] | None]]) -> Node:
    """``X[0,3]`` becomes ``X_3``, in row-major order; ``==`` becomes ``=``, ``!=`` a negation."""
    if node.items is None:
        name, bracket, index = node.text.partition("[")
        if name not in names:
            return node
        kind, shape, _ = names[name]
        indices = [int(p) if p.isdigit() else -1 for p in index.rstrip("]").split(",")] if bracket else []
        if len(indices) != len(shape) or any(not 0 <= i < d for i, d in zip(indices, shape, strict=True)):
            raise SyntaxProblem(f"line {node.line}: {clipped(node.text)} is no element of {name}, whose shape is {list(shape)}")
        flat = 0
        for i, d in zip(indices, shape, strict=True):
            flat = flat * d + i
        return Node(node.line, f"{kind}_{flat}")
    items = tuple(_flattened(item, names) for item in node.items)
    _check_constants(node, names)
    if node.head == "==":
        return Node(node.line, items=(Node(node.line, "="), *items[1:]))
    if node.head == "!=":
        return Node(node.line, items=(Node(node.line, "not"), Node(node.line, items=(Node(node.line, "="), *items[1:]))))
    return Node(node.line, items=items)


def _check_constants(node: Node, names: dict[str, tuple[str, tuple[int, ...], tuple[int, int] | None]]) -> None:
    """A constant beside an element of an integer type has to be a value of that type."""
    parts = [item.text for item in node.items or () if item.items is None]
    ranges = [names[name][2] for part in parts[1:] if (name := part.partition("[")[0]) in names]
    for limits in ranges:
        for part in parts[1:]:
            if limits is not None and part.lstrip("-+.").replace(".", "").isdigit():
                value = Fraction(part)
                if value.denominator != 1 or not limits[0] <= value <= limits[1]:
                    raise SyntaxProblem(f"line {node.line}: {clipped(part)} is no value of the declared integer type")
