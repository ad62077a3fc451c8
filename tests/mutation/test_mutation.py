"""The tool on a library of one module: what it changes, what it leaves alone, and what it makes of a test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from tests.mutation.copies import Copy
from tests.mutation.imports import files_of_tests
from tests.mutation.reach import DECLARED, recorded
from tests.mutation.sites import Mutant, chosen, sites_of
from tests.mutation.summary import share, survivors, table
from tests.mutation.trial import Kept, Limits, Trial, in_batches, tried_room, up_to
from tests.paths import REPO

LIBRARY = '''"""A toy: 1 < 2."""

def larger(a: int, b: int = 0) -> int:
    """The larger one."""
    if a > b:
        return a
    return b
'''
TESTS = """from pipeline_lib.toy.sizes import larger

def test_larger():
    assert larger(3, 2) == 3 and larger(2, 3) == 3

def test_that_fails_by_itself():
    assert larger(0) == 1
"""
LEFT_OUT = """from __future__ import annotations
from typing import TYPE_CHECKING, Literal, cast
__all__ = ["a", "b"][0:2]
Number = int | float
if TYPE_CHECKING:
    x = 1 + 2
def f(a: Literal[3, 4]) -> list[Literal[5]]:
    assert a < 3 and a > 0
    if a != 0:
        raise ValueError(f"{a + 1} is larger than {max(a, 7)}")
    print(a - 1)
    log.info("x", n=a + 1)
    option(help="text")
    step = a if device.type == "cuda" and a > 1 else cast(Literal[6], a)
class C:
    def __repr__(self):
        return "a" + str(1)
if __name__ == "__main__":
    f(8)
"""


def mutants_of(text: str) -> set[tuple[str, str]]:
    """Kind and changed text of every mutant of a module; each is a program."""
    found = set()
    for site in sites_of("m.py", text.encode()):
        for option in site.change.options:
            changed = Mutant(site, 1, option, "", "").applied(text.encode()).decode()
            ast.parse(changed)
            found.add((site.change.kind, changed))
    return found


@pytest.mark.parametrize(
    ("text", "kind", "changed"),
    [
        ("x = a < b", "comparison", {"x = a <= b", "x = a >= b"}),
        ("x = a is  not b", "comparison", {"x = a is b"}),
        ("x = (a) * (b)", "arithmetic", {"x = (a) / (b)"}),
        ("x = (a  # ä + ä\n + b)", "arithmetic", {"x = (a  # ä + ä\n - b)"}),
        ("x = math.log(a + b)", "arithmetic", {"x = math.log(a - b)"}),
        ("x = -a", "arithmetic", {"x = +a"}),
        ("x = 0.5", "number", {"x = 1.5", "x = (-0.5)", "x = 1.0"}),
        ("x = 0", "number", {"x = 1"}),
        ("x = True", "boolean", {"x = False"}),
        ("x = a[-1]", "index", {"x = a[0]", "x = a[-2]"}),
        ("x = a[:, 2]", "index", {"x = a[:, 3]", "x = a[:, 1]"}),
        ("x = a and b and c", "and/or", {"x = (a or b or c)"}),
        ("x = not a", "not", {"x = (a)"}),
        ("x = a if b else c", "not", {"x = a if (not (b)) else c"}),
        ("f(a)", "statement", {"pass"}),
        ("f(a, b=c, d=e,)", "argument", {"f(a, d=e,)", "f(a, b=c, )"}),
        ("zip(a, b, strict=True, c=d)", "argument", {"zip(a, b, strict=True, )"}),
        ("zip(a, b, strict=True)", "boolean", set()),
        ("x = min(a.sum(0))", "swap", {"x = max(a.sum(0))", "x = min(a.mean(0))"}),
        ("def f():\n    return ä", "return", {"def f():\n    return None"}),
        ('x = f"ä{a + b}"', "arithmetic", {'x = f"ä{a - b}"'}),
    ],
)
def test_faults_of_each_kind(text: str, kind: str, changed: set[str]) -> None:
    assert {new for found, new in mutants_of(text) if found == kind} == changed


def test_an_augmented_assignment_is_changed_and_left_out() -> None:
    assert mutants_of("x += a") == {("arithmetic", "x -= a"), ("statement", "pass")}


def test_what_is_no_fault_of_a_result_is_left_alone() -> None:
    """What remains: the condition before `raise`, a call whose argument is a text, the choice of a GPU."""
    kinds = [(site.change.kind, site.first) for site in sites_of("m.py", LEFT_OUT.encode())]
    assert sorted(kinds) == [
        *[("and/or", 14), ("comparison", 9), ("comparison", 14), ("comparison", 14)],
        *[("not", 14), ("number", 9), ("number", 14), ("statement", 13)],
    ]


def test_batches_and_the_part_before_a_test() -> None:
    names = [str(number) for number in range(60)]
    assert [len(batch) for batch in in_batches(names)] == [8, 40, 12]
    assert [len(batch) for batch in in_batches(names[:8])] == [8]
    assert [*chain(*up_to(in_batches(names), "20"))] == names[:21]


def test_interval_by_hand() -> None:
    """Wilson at 9 of 10, z = 1.96: centre (0.9 + 0.192) / 1.384 = 0.789, half width 0.1927."""
    assert share(9, 10) == "90% (60% to 98%)"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    root = tmp_path_factory.mktemp("copy")
    for name, text in {
        "pipeline_lib/__init__.py": "",
        "pipeline_lib/toy/__init__.py": "",
        "pipeline_lib/toy/sizes.py": LIBRARY,
        "tests/toy/test_sizes.py": TESTS,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    copy = Copy(root, heavy=())
    yield copy
    copy.close()


def test_the_same_seed_chooses_the_same(copy: Copy) -> None:
    first, sites = chosen(copy.folder, "toy", 4, 1)
    assert first == chosen(copy.folder, "toy", 4, 1)[0] == chosen(copy.folder, "toy", 6, 1)[0][:4]
    assert first != chosen(copy.folder, "toy", 4, 2)[0]
    assert sites == 5  # a default, a comparison, a condition and two returns


def test_killed_survived_and_kept(copy: Copy, tmp_path: Path) -> None:
    said: list[str] = []
    reach = recorded([copy], ["toy"], files_of_tests(copy.folder, ["toy"]), tmp_path / "store", said.append)
    assert list(reach.failed) == ["tests/toy/test_sizes.py::test_that_fails_by_itself"]
    kept = Kept(tmp_path / "out.json", {"seed": 1, "code": "c", "commit": "abc"})
    tried_room("toy", 99, [copy], Trial(reach, Limits()), kept, said.append)
    results = kept.rooms["toy"]["mutants"]
    found = {mutant["after"]: mutant["outcome"] for mutant in results.values()}
    changed = found.pop("if a >= b:", None) or found.pop("if a <= b:")  # for a = b both answers are right
    assert changed in ("survived", "failed")
    assert found == {
        "def larger(a: int, b: int = 1) -> int:": "survived",
        "if (not (a > b)):": "failed",
        "return None": "failed",
    }
    assert (copy.folder / "pipeline_lib/toy/sizes.py").read_text() == LIBRARY  # as it was
    killed = 5 - sum(outcome == "survived" for outcome in (changed, *found.values()))
    assert f"| toy | 5 | 5 | {killed} | {share(killed, 5)} | 0 | 0 |" in table(kept.rooms)
    assert "pipeline_lib/toy/sizes.py:3 (number; 1 tests tried; it runs at import)" in survivors(kept.rooms)

    again, before = Kept(kept.path, kept.head), len(said)
    tried_room("toy", 99, [copy], Trial(reach), again, said.append)
    assert again.rooms == kept.rooms and len(said) == before
    with pytest.raises(UserError, match="another seed or other code"):
        Kept(kept.path, {**kept.head, "seed": 2})


def test_the_tests_of_declarations_are_there() -> None:
    for name in DECLARED:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (REPO / file).read_text(encoding="utf-8")
