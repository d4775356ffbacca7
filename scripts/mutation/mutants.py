"""The mutants of a file: its text with one place changed."""

from __future__ import annotations

import collections
import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

from mutation.operators import OPERATORS

NO_CODE = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Raise, cst.FormattedString)
"""What holds nothing that computes: types, names, and the words of messages. A ``raise`` itself is left out as a statement."""
STRICT = m.Arg(keyword=m.Name("strict"))
CHECK_OF_THE_CODE = "assert_never"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed place. ``file``, ``line`` and ``change`` name it in the list of explained mutants, whatever the line's number."""

    file: str
    function: str
    """Of the innermost class and function around it, with dots; empty at the top of a module."""
    line: str
    """The text of the first line that differs, stripped."""
    change: str
    """``old -> new``: the lines that differ, stripped, cut to the part that does; ``#2`` behind it is for a second one that reads alike."""
    text: str
    """The file with the change made."""
    number: int
    """The line's number."""

    @property
    def key(self) -> str:
        """A digest of the mutated file: the same mutant of the same code."""
        return hashlib.sha256(f"{self.file}\n{self.text}".encode()).hexdigest()

    def diff(self, original: str) -> str:
        """As a unified diff without context."""
        lines = difflib.unified_diff(original.splitlines(), self.text.splitlines(), self.file, self.file, n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, str]] = []
        self.path: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.path.append(node.name.value)
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                self.found += ((node, changed, ".".join(self.path)) for changed in operator(node))
        return not isinstance(node, NO_CODE) and not m.matches(node, STRICT)

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self.path.pop()


def of_file(path: Path, root: Path) -> Iterator[Mutant]:
    """Every mutant of a Python file that still is Python and differs from it."""
    original, file = path.read_text(), path.relative_to(root).as_posix()
    wrapper, visitor = MetadataWrapper(cst.parse_module(original)), _Visitor()
    wrapper.visit(visitor)
    alike: collections.Counter[tuple[str, str, str]] = collections.Counter()
    statements = _Statements(wrapper.module)
    for node, changed, function in visitor.found:
        text = statements.replaced(node, changed)
        if text == original or not _compiles(text):
            continue
        number, line, change = _place(original, text)
        if CHECK_OF_THE_CODE in change:
            continue
        alike[function, line, change] += 1
        again = alike[function, line, change]
        yield Mutant(file, function, line, change if again == 1 else f"{change} #{again}", text, number)


class _Statements:
    """A module by its statements: to write one of them again takes a hundredth of writing them all."""

    def __init__(self, module: cst.Module) -> None:
        self.module, self.codes = module, [module.code_for_node(s) for s in module.body]
        self.head, self.tail = module.code.split("".join(self.codes))
        self.place: dict[int, int] = {}
        for number, statement in enumerate(module.body):
            stack: list[cst.CSTNode] = [statement]
            while stack:
                node = stack.pop()
                self.place[id(node)] = number
                stack += node.children

    def replaced(self, node: cst.CSTNode, changed: cst.CSTNode) -> str:
        """The module's text with one node replaced."""
        number = self.place[id(node)]
        statement = self.module.body[number].deep_replace(node, changed)
        assert isinstance(statement, cst.CSTNode)
        return "".join([self.head, *self.codes[:number], self.module.code_for_node(statement), *self.codes[number + 1 :], self.tail])


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _place(original: str, text: str) -> tuple[int, str, str]:
    """Number and text of the first line that differs, and the shortest whole words that do, of all lines together."""
    before, after = original.splitlines(), text.splitlines()
    first = next(i for i, (a, b) in enumerate(zip(before, [*after, ""], strict=False)) if a != b)
    last = next(i for i, (a, b) in enumerate(zip(reversed(before), reversed(after), strict=False)) if a != b)
    old = " ".join(line.strip() for line in before[first : len(before) - last])
    new = " ".join(line.strip() for line in after[first : len(after) - last])
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    room = min(len(old), len(new)) - start
    end = next((i for i in range(room) if old[-1 - i] != new[-1 - i]), room)
    # Whole words, and a few letters more, so that the change can be read.
    while start and not (old[start - 1] == " " and start < len(old)):
        start -= 1
    while end and old[-end] != " ":
        end -= 1
    return first + 1, before[first].strip(), f"{old[start : len(old) - end].strip()} -> {new[start : len(new) - end].strip()}"
