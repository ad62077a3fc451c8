"""Where in a room a fault can be put, and which of these places a seed chooses."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.mutation.changes import UNSEEN, Change, changes
from tests.mutation.source import Source

LEFT_OUT = {
    "optimizers/triton_updates.py",
    "optimizers/multi_tensor.py",
    "reporting/claims.py",
    "reporting/finding.py",
}
# `print(...)`, `warnings.warn(...)` and what a logger is told
SPEECH = {"print", "warn", "debug", "info", "warning"}
# fields of a node that do not run
UNUSED = {"annotation", "returns", "type_comment", "type_params", "simple"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
HEADED = Function | ast.ClassDef | ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match


@dataclass(frozen=True)
class Site:
    """A place for a fault. `first` to `last`: the lines of the statement around it, without its block.

    `at_import`: no function is around it, so it runs when the module is imported. `declares`: the name that
    the statement gives a value, "" where it gives none.
    """

    file: str  # from the folder that has pipeline_lib, with slashes
    change: Change
    first: int
    last: int
    at_import: bool
    declares: str


@dataclass(frozen=True)
class Mutant:
    """One fault: a site and the text that stands there instead."""

    site: Site
    line: int
    text: str
    before: str  # the source lines without and with it, each on one line
    after: str

    @property
    def key(self) -> str:
        change = self.site.change
        return f"{self.site.file}:{self.line}:{change.start}-{change.end}:{change.kind}:{self.text}"

    def applied(self, content: bytes) -> bytes:
        return Source(content).replaced(self.site.change.start, self.site.change.end, self.text)


@dataclass(frozen=True)
class Around:
    """What the walk knows of a node from the nodes above it."""

    first: int
    last: int
    at_import: bool = True
    declares: str = ""
    in_index: bool = False
    in_format: bool = False  # in an f-string, where Python 3.11 gives wrong columns for some nodes


def files_of(root: Path, room: str) -> list[str]:
    """The modules of a room that can be given a fault, by name."""
    library = root / "pipeline_lib"
    found = [path.relative_to(library).as_posix() for path in sorted((library / room).rglob("*.py"))]
    return [f"pipeline_lib/{file}" for file in found if file not in LEFT_OUT]


def sites_of(file: str, content: bytes) -> list[Site]:
    """Every site of a module, in the order of its text."""
    source = Source(content)
    found = [site for node in ast.parse(content).body for site in _walk(node, source, file, _header(node))]
    return sorted(set(found), key=lambda site: (site.change.start, site.change.end, site.change.kind))


def chosen(root: Path, room: str, count: int, seed: int) -> tuple[list[Mutant], int]:
    """`count` mutants of a room, every site with equal chance, and the number of its sites.

    A longer choice with the same seed begins with the shorter one.
    """
    contents = {file: (root / file).read_bytes() for file in files_of(root, room)}
    sites = [site for file, content in contents.items() for site in sites_of(file, content)]
    drawing = random.Random(f"{seed}:{room}")
    mutants: list[Mutant] = []
    for site in drawing.sample(sites, len(sites)):
        text = drawing.choice(site.change.options)
        source = Source(contents[site.file])
        if len(mutants) < count and _is_another_program(source, site.change, text):
            start, end = site.change.start, site.change.end
            shown = source.lines(start, end), source.lines(start, end, text)
            mutants.append(Mutant(site, source.line(start), text, *shown))
    return mutants, len(sites)


def _is_another_program(source: Source, change: Change, text: str) -> bool:
    try:
        tree = ast.parse(source.replaced(change.start, change.end, text))
    except SyntaxError:
        return False
    return ast.dump(tree) != ast.dump(ast.parse(source.content))


def _header(statement: ast.stmt, at_import: bool = True) -> Around:
    """The lines of a statement, of one with a block only those before the block."""
    first, last = statement.lineno, statement.end_lineno or statement.lineno
    if isinstance(statement, HEADED):
        inner = statement.cases[0].pattern if isinstance(statement, ast.Match) else statement.body[0]
        last = max(first, inner.lineno - 1)
    return Around(first, last, at_import, _declared(statement))


def _declared(statement: ast.stmt) -> str:
    """The name of a variable, a class attribute or a function."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.FunctionDef(name=name):
            return name
    return ""


def _walk(node: ast.AST, source: Source, file: str, around: Around) -> Iterator[Site]:
    if _left_out(node):
        return
    if isinstance(node, ast.If) and re.search("TYPE_CHECKING|__name__", ast.unparse(node.test)):
        for statement in node.orelse:
            yield from _walk(statement, source, file, _header(statement, around.at_import))
        return
    if not around.in_format or _is_where_it_says(node, source):
        for change in changes(node, source, around.in_index):
            yield Site(file, change, around.first, around.last, around.at_import, around.declares)
    for name, value in ast.iter_fields(node):
        if name in UNUSED or (name == "body" and _runs_on_a_gpu(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_declaration(node, name, child):
                if around.in_index and isinstance(node, ast.UnaryOp) and isinstance(child, ast.Constant):
                    continue  # the 1 of `x[-1]`: the index is changed as a whole
                yield from _walk(child, source, file, _below(node, name, child, around))


def _below(node: ast.AST, name: str, child: ast.AST, around: Around) -> Around:
    inside = isinstance(node, Function) and name == "body"
    if isinstance(child, ast.stmt):
        return _header(child, around.at_import and not inside)
    in_index = (isinstance(node, ast.Subscript) and name == "slice") or (
        around.in_index and isinstance(node, ast.Slice | ast.Tuple)
    )
    in_format = around.in_format or isinstance(node, ast.JoinedStr)
    return replace(around, in_index=in_index, in_format=in_format)


def _left_out(node: ast.AST) -> bool:
    """Nothing in this node is given a fault; the reasons are in the package's docstring."""
    match node:
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.FunctionDef(name="__repr__"):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name in SPEECH
        case ast.Expr(value=ast.Call() as call):
            return _left_out(call)
        case ast.Subscript(value=ast.Name(id="Literal")):
            return True
        case ast.keyword(arg=name):
            return name in UNSEEN
    return False


def _runs_on_a_gpu(node: ast.AST) -> bool:
    """Whether the body of an `if` does so alone."""
    if not isinstance(node, ast.If | ast.IfExp):
        return False
    condition = ast.unparse(node.test)
    return "cuda" in condition and not re.search("not |!=", condition)


def _is_declaration(node: ast.AST, name: str, child: ast.AST) -> bool:
    """The arguments of `@dataclass`, and the type that `cast` is given."""
    if name == "decorator_list":
        return isinstance(child, ast.Call) and ast.unparse(child.func).endswith("dataclass")
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cast" and child in node.args[:1]


def _is_where_it_says(node: ast.AST, source: Source) -> bool:
    if not isinstance(node, ast.expr):
        return False
    try:
        found = ast.parse(source.text(node).strip(), mode="eval").body
    except (SyntaxError, UnicodeDecodeError):
        return False
    return ast.dump(found) == ast.dump(node)
