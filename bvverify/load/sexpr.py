"""S-expressions with line numbers, read without recursion: a file of a million parentheses is an error message, not a stack overflow."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\s+|;[^\n]*|(?P<open>\()|(?P<close>\))|(?P<atom>[^\s();]+)")


class SyntaxProblem(ValueError):
    """What is wrong, with its line."""


@dataclass(frozen=True, slots=True)
class Node:
    """An atom (``text``) or a list (``items``), and the line that it begins in."""

    line: int
    text: str = ""
    items: tuple[Node, ...] | None = None

    @property
    def head(self) -> str:
        """The first atom of a list; empty where there is none."""
        return self.items[0].text if self.items else ""


def clipped(text: str, most: int = 60) -> str:
    """Text of a file as a message shows it: a broken file can hold an atom of any length."""
    return text if len(text) <= most else text[:most] + "..."


def parse(text: str) -> list[Node]:
    """All expressions of a file."""
    stack: list[tuple[int, list[Node]]] = [(1, [])]
    line = 1
    for match in _TOKEN.finditer(text):
        if match["open"]:
            stack.append((line, []))
        elif match["close"]:
            if len(stack) == 1:
                raise SyntaxProblem(f"line {line}: a parenthesis closes that none has opened")
            begun, items = stack.pop()
            stack[-1][1].append(Node(begun, items=tuple(items)))
        elif match["atom"]:
            stack[-1][1].append(Node(line, match["atom"]))
        line += match[0].count("\n")
    if len(stack) > 1:
        raise SyntaxProblem(f"line {stack[-1][0]}: a parenthesis is never closed")
    return stack[0][1]
