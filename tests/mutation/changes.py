"""Which faults a node of the syntax tree can be given, each as a replacement of a span of the text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.mutation.source import Source


class Change(NamedTuple):
    """A span of the text, in bytes, and what may stand there instead: one of `options`."""

    kind: str
    start: int
    end: int
    options: tuple[str, ...]


COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.MatMult: ("@", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.BitXor: ("^", "|"),
}
SWAPS = {
    **{"min": "max", "amin": "amax", "minimum": "maximum", "argmin": "argmax"},
    **{"sum": "mean", "any": "all", "floor": "ceil"},
}
SWAPS |= {new: old for old, new in SWAPS.items()}
BUILTINS = {"min", "max", "any", "all"}  # the others of SWAPS are methods or belong to a module
UNSEEN = {"strict", "device"}  # a check of lengths, as an `assert` is; a place that only a GPU machine has
TEXTS = {
    *("caption", "description", "display", "epilog", "formula", "help", "label", "message", "metavar"),
    *("note", "short_label", "source", "text", "title", "trap", "xlabel", "ylabel"),
}


def negatable(test: ast.expr) -> bool:
    """Whether `not (test)` is a fault of its own: that of `a == b` is its comparison changed."""
    plain = (
        isinstance(test, ast.Compare) and len(test.ops) == 1 and len(COMPARISONS[type(test.ops[0])][1]) == 1
    )
    return not plain and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not))


def is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return is_text(node.left) or is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_type(node: ast.expr) -> bool:
    """`int`, `Path`, `list[str]`, `None`: what stands in an alias of a type."""
    if isinstance(node, ast.Subscript):
        return is_type(node.value)
    if isinstance(node, ast.Name):
        return node.id in {"bool", "dict", "float", "int", "list", "set", "str", "tuple"} or (
            node.id[0].isupper() and not node.id.isupper()
        )
    return isinstance(node, ast.Constant) and node.value is None


def changes(node: ast.AST, source: Source, in_index: bool) -> Iterator[Change]:
    """Every fault that the node itself can be given; those of its children come with the children.

    `in_index`: the node is an index, or a bound of a slice.
    """
    match node:
        case ast.Compare():
            yield from _comparisons(node, source)
        case ast.BinOp() if type(node.op) in ARITHMETIC and not is_text(node):
            if not (isinstance(node.op, ast.BitOr) and (is_type(node.left) or is_type(node.right))):
                old, new = ARITHMETIC[type(node.op)]
                yield from _between(source, "arithmetic", node.left, node.right, re.escape(old), (new,))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))) if in_index:
            yield Change("index", source.start(node), source.end(node), (str(-value + 1), str(-value - 1)))
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield Change("arithmetic", source.start(node), source.start(node) + 1, ("+",))
        case ast.UnaryOp(op=ast.Not()):
            yield Change("not", source.start(node), source.end(node), (f"({source.text(node.operand)})",))
        case ast.BoolOp():
            yield _and_or(node, source)
        case ast.Constant(value=bool(value)):
            yield Change("boolean", source.start(node), source.end(node), (str(not value),))
        case ast.Constant(value=int() | float()):
            yield _number(node, source, in_index)
        case ast.If() | ast.While() | ast.IfExp() if negatable(node.test):
            yield _negated(node.test, source)
        case ast.comprehension():
            yield from (_negated(test, source) for test in node.ifs if negatable(test))
        case ast.Expr(value=ast.Call()):
            yield Change("statement", source.start(node), source.end(node), ("pass",))
        case ast.AugAssign():
            yield Change("statement", source.start(node), source.end(node), ("pass",))
            if type(node.op) in ARITHMETIC and not is_text(node.value):
                old, new = ARITHMETIC[type(node.op)]
                pattern = re.escape(old + "=")
                yield from _between(source, "arithmetic", node.target, node.value, pattern, (new + "=",))
        case ast.Return(value=ast.expr() as value) if not (
            isinstance(value, ast.Constant) and value.value is None
        ):
            yield Change("return", source.start(value), source.end(value), ("None",))
        case ast.Call():
            yield from _dropped(node, source)
            yield from _swapped(node.func, source)


def _between(
    source: Source, kind: str, left: ast.expr, right: ast.expr, pattern: str, options: tuple[str, ...]
) -> Iterator[Change]:
    """The operator between two operands: beside it there are blanks, brackets and comments at most."""
    start = source.end(left)
    gap = re.sub(
        "#.*", lambda comment: " " * len(comment[0].encode()), source.between(start, source.start(right))
    )
    if found := re.search(pattern, gap):
        yield Change(kind, start + found.start(), start + found.end(), options)


def _comparisons(node: ast.Compare, source: Source) -> Iterator[Change]:
    for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        pattern, options = COMPARISONS[type(operator)]
        yield from _between(source, "comparison", left, right, pattern, options)


def _and_or(node: ast.BoolOp, source: Source) -> Change:
    """`a and b and c` -> `(a or b or c)`: the brackets keep what stands around it apart."""
    old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    parts = [source.between(source.start(node), source.end(node.values[0]))]
    for left, right in pairwise(node.values):
        gap = source.between(source.end(left), source.start(right))
        parts += [re.sub(rf"\b{old}\b", new, gap, count=1), source.text(right)]
    parts.append(source.between(source.end(node.values[-1]), source.end(node)))
    return Change("and/or", source.start(node), source.end(node), (f"({''.join(parts)})",))


def _number(node: ast.Constant, source: Source, in_index: bool) -> Change:
    value = node.value
    assert isinstance(value, int | float)
    options: tuple[int | float, ...]
    if in_index:
        options = (value + 1, value - 1)
    elif value == 0:
        options = (value + 1,)
    else:
        options = tuple(dict.fromkeys((value + 1, value - 1, value * 2)))
        options = tuple(option for option in options if option != value)  # 1e30 + 1
    texts = tuple(f"({option})" if option < 0 else repr(option) for option in options)
    return Change("index" if in_index else "number", source.start(node), source.end(node), texts)


def _negated(test: ast.expr, source: Source) -> Change:
    return Change("not", source.start(test), source.end(test), (f"(not ({source.text(test)}))",))


def _dropped(node: ast.Call, source: Source) -> Iterator[Change]:
    """Each named argument left out, with the comma behind it."""
    arguments: list[ast.expr | ast.keyword] = sorted([*node.args, *node.keywords], key=source.start)
    for place, argument in enumerate(arguments):
        if not isinstance(argument, ast.keyword) or argument.arg is None:
            continue
        if argument.arg in UNSEEN or (argument.arg in TEXTS and is_text(argument.value)):
            continue
        start, end = source.start(argument), source.end(argument)
        if place + 1 < len(arguments):
            end = source.start(arguments[place + 1])
        else:
            trailing = re.match(r"\s*,?", source.between(end, source.end(node)))
            end += trailing.end() if trailing and trailing[0].endswith(",") else 0
        yield Change("argument", start, end, ("",))


def _swapped(function: ast.expr, source: Source) -> Iterator[Change]:
    """min for max and the like: the name alone, of a builtin, a method or a function of a module."""
    if isinstance(function, ast.Name) and function.id in BUILTINS:
        yield Change("swap", source.start(function), source.end(function), (SWAPS[function.id],))
    elif isinstance(function, ast.Attribute) and function.attr in SWAPS:
        end = source.end(function)
        yield Change("swap", end - len(function.attr), end, (SWAPS[function.attr],))
