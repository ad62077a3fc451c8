"""Ways to spoil a suite: each takes a whole suite and gives a whole suite with one thing in it changed.

Hypothesis draws the way, the place and the value. Half of the ways change a suite as a person would (another
number, another known word, a label renamed wherever it stands), so that many mutants stay valid and go on to
a dry run; the others write what no suite should hold.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from pipeline_lib.study import Suite

Draw = Callable[[Any], Any]
Path = tuple[Any, ...]

# --- what no name, path or number should be ------------------------------------------------------

SHELL = (
    "$(touch pwned)",
    "`touch pwned`",
    "a;touch pwned",
    "a && touch pwned",
    "a|b",
    "a>b",
    "'a'",
    '"a"',
    "a b",
)
NAMES = (
    *SHELL, "a/b", "../a", "/a", "..", ".", ".a", "-a", "--forcerun", "", " ", "a\nb", "a\x00b", "a\\b",
    "{task}", "a{b", "a*", "a?", "[a]", "~", "é", "ａ", "a\u202eb", "a\u200bb", "\ud800", "x" * 65,
    "x" * 5000, "con", "none", "original", "retrained", "reference", "NONE", "seed0", "run.json",
)  # fmt: skip
ODD_NAMES = (
    "a.-_b",
    "0",
    "1e5",
    "007",
    "yes",
    "null",
    "x" * 64,
    "a..",
    "models",
    "A-1",
    "2024-01-31",
    "seed0",
)
PATHS = (
    "../../../../etc/passwd", "/etc/shadow", "/dev/zero", "/proc/self/mem", "a/../../b", "~root/x",
    "$HOME/../x", "${UNSET_VARIABLE}/x", "$(touch pwned)", "`id`", "file:///etc/passwd",
    "http://localhost/x", "\\\\host\\share", "a\x00b", "x" * 5000, "\ud800", "{task}", "%00", ".", "",
)  # fmt: skip
NUMBERS = (
    0, -0.0, -1, 1, 2, 0.5, 1e-320, 1e-300, 1e300, 1e308, -1e308, 2**31 - 1, 2**31, 2**63, 2**64, 10**400,
    -(10**400), 10**5000, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "1e-5", "1e999", "nan", ".inf", "0x10", "1_000", "1:30", "yes", "None", "null", "~",
    "!!python/name:os.system", "<script>alert(1)</script>", "{{ 7 * 7 }}", "{0.__class__}", "%s%n",
    "\u2028", "\x1b[31m", "\ufeff", "a" * 100_000,
)  # fmt: skip
OTHERS = (None, True, False, b"\xff", [], {}, [[]], [None], {None: None}, {1: 2}, datetime.date(2024, 1, 31))
BAD = st.one_of(
    *map(st.sampled_from, (NAMES, PATHS, NUMBERS, TEXTS, OTHERS)), st.text(max_size=5), st.floats()
)
KEYS = st.one_of(
    st.sampled_from(
        ("kind", "source", "__use_yte__", "__definitions__", "?if True", "<<", "[key]", 1, None, True)
    ),
    st.sampled_from(NAMES),
    st.sampled_from((*Suite.model_fields, "preset")),
    st.text(max_size=4),
)

# --- what a person might write -------------------------------------------------------------------

WORDS = (
    "fp32", "bf16", "bf16_stochastic", "constant", "linear", "cosine", "auto", "cpu", "cuda", "forget",
    "retain", "both", "facts", "holdout", "records", "refusals", "arc_easy", "mmlu",
    "wikitext", "template", "chat", "diagonal", "ekfac", "hutchinson_gaussian", "empirical_fisher",
    "halton", "grid", "log", "ks_statistic", "generated",
)  # fmt: skip
ADDITIONS: tuple[tuple[str, Any], ...] = (
    ("evaluation.equal_retain", 0.05),
    ("evaluation.grad_norm", True),
    ("evaluation.samples", {"n": 3}),
    ("evaluation.compute", "bf16"),
    ("evaluation.max_records", {"forget": 3}),
    ("evaluation.benchmarks", {"tasks": ["arc_easy", "wikitext"], "limit": 5}),
    ("evaluation.embedder", {"source": "folder", "path": "../elsewhere/$(id)"}),
    ("evaluation.toxicity", {"classifier": {"kind": "rude_words"}, "prompts": {"source": "task"}}),
    ("unlearn.weights", "bf16"),
    ("unlearn.lora", {"rank": 2, "target": ["q_proj", "$(id)"]}),
    ("unlearn.checkpoint_seconds", 0),
    ("resources.gpus", 2),
    ("resources.keep_models", False),
    ("resources.gpu_memory_gb", 0.001),
    ("seeds", [0, 7]),
    ("comparisons", [{"first": "sophia", "second": "adamw", "question": "<b>`which`; $(id)?"}]),
    ("objectives.KL", None),
    ("objectives.InContext", {"instruction": "'; touch pwned; {prompt}"}),
    ("optimizers.muon", {"learning_rate": 1e-3}),
    ("tasks.own", {"source": "files", "folder": "../../$(id)", "facts": "facts.jsonl"}),
    ("tasks.story", {"source": "passages", "book": "/dev/zero", "retain": {"source": "generated"}}),
    ("models.local", {"source": "folder", "path": "/dev/../$(id)"}),
    ("models.packed", {"source": "gguf", "path": "../`id`.gguf"}),
    (
        "tune",
        {
            "trials": 2,
            "optimizers": {"adamw": {"learning_rate": {"low": 1e-5, "high": 1e-3, "scale": "log"}}},
        },
    ),
    ("preset", "tiny"),
)


def paths(part: Any, above: Path = ()) -> Iterator[Path]:
    """Where everything in a suite stands, the suite itself left out."""
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in entries:
        yield (*above, key)
        yield from paths(value, (*above, key))


def at(suite: Any, path: Path) -> Any:
    """What stands at a path."""
    for key in path:
        suite = suite[key]
    return suite


def one_of(draw: Draw, places: list[Path]) -> Path:
    """One of the places; after another change there may be none, and then this mutant is none."""
    assume(places)
    return draw(st.sampled_from(places))


def with_value(suite: Any, path: Path, value: Any) -> Any:
    """The suite with another value at a path."""
    changed = copy.deepcopy(suite)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def replaced(draw: Draw, suite: Any) -> Any:
    """Anything in place of anything."""
    return with_value(suite, one_of(draw, list(paths(suite))), draw(BAD))


def missing(draw: Draw, suite: Any) -> Any:
    """A key or an entry of a list is gone."""
    changed, path = copy.deepcopy(suite), one_of(draw, list(paths(suite)))
    del at(changed, path[:-1])[path[-1]]
    return changed


def extra(draw: Draw, suite: Any) -> Any:
    """A key that does not belong there."""
    blocks = [path for path in ((), *paths(suite)) if isinstance(at(suite, path), dict)]
    changed = copy.deepcopy(suite)
    at(changed, one_of(draw, blocks))[draw(KEYS)] = draw(BAD)
    return changed


def renamed_key(draw: Draw, suite: Any) -> Any:
    """A key with another name."""
    changed = copy.deepcopy(suite)
    path = one_of(draw, [path for path in paths(suite) if isinstance(at(suite, path[:-1]), dict)])
    block = at(changed, path[:-1])
    block[draw(KEYS)] = block.pop(path[-1])
    return changed


def relabelled(draw: Draw, suite: Any) -> Any:
    """A label, or the suite's name, is another one wherever it stands: what would become a folder."""
    old = draw(st.sampled_from([str(suite["suite"]), *_labels(suite)]))
    return _everywhere(copy.deepcopy(suite), old, draw(st.sampled_from(NAMES) | st.sampled_from(ODD_NAMES)))


def odd_label(draw: Draw, suite: Any) -> Any:
    """A label that looks odd and is allowed, wherever it stands."""
    old = draw(st.sampled_from([str(suite["suite"]), *_labels(suite)]))
    return _everywhere(copy.deepcopy(suite), old, draw(st.sampled_from(ODD_NAMES)))


def other_path(draw: Draw, suite: Any) -> Any:
    """A path that leads elsewhere, in place of a text."""
    texts = [path for path in paths(suite) if isinstance(at(suite, path), str)]
    return with_value(suite, one_of(draw, texts), draw(st.sampled_from(PATHS)))


def other_word(draw: Draw, suite: Any) -> Any:
    """A word that some setting knows, in place of a text."""
    texts = [path for path in paths(suite) if isinstance(at(suite, path), str)]
    return with_value(suite, one_of(draw, texts), draw(st.sampled_from(WORDS)))


def other_number(draw: Draw, suite: Any) -> Any:
    """A number of the same kind, near or far."""
    numbers = [path for path in paths(suite) if type(at(suite, path)) in (int, float)]
    path = one_of(draw, numbers)
    old = at(suite, path)
    whole = st.integers(1, 12) | st.sampled_from((old + 1, max(old - 1, 0), 2 * old))
    return with_value(
        suite, path, draw(whole if isinstance(old, int) else st.floats(1e-6, 1) | st.just(old / 2))
    )


def huge_number(draw: Draw, suite: Any) -> Any:
    """A number beyond all bounds, or none."""
    numbers = [path for path in paths(suite) if type(at(suite, path)) in (int, float)]
    return with_value(suite, one_of(draw, numbers), draw(st.sampled_from(NUMBERS)))


def spoiled_list(draw: Draw, suite: Any) -> Any:
    """A list with an entry twice, in a list of its own, reversed, emptied, or as its only entry."""
    lists = [path for path in paths(suite) if isinstance(at(suite, path), list) and at(suite, path)]
    path = one_of(draw, lists)
    old = at(suite, path)
    shapes = [
        old + old[:1],
        [old],
        old[::-1],
        [],
        old[0],
        dict(enumerate(old)),
        old[:1],
        [*old, None],
        old * 50,
    ]
    return with_value(suite, path, draw(st.sampled_from(shapes)))


def nested(draw: Draw, suite: Any) -> Any:
    """Something many blocks or lists deep, or inside itself."""
    path = one_of(draw, list(paths(suite)))
    value = at(suite, path)
    kind = draw(st.sampled_from(("list", "block", "itself")))
    if kind == "itself":
        loop: list[Any] = [value]
        loop.append(loop)
        return with_value(suite, path, loop)
    for _ in range(draw(st.sampled_from((1, 2, 60)))):
        value = [value] if kind == "list" else {"a": value}
    return with_value(suite, path, value)


def addition(draw: Draw, suite: Any) -> Any:
    """A setting that the suite did not have."""
    name, value = draw(st.sampled_from(ADDITIONS))
    changed = copy.deepcopy(suite)
    block = changed
    *above, last = name.split(".")
    for key in above:
        if not isinstance(block.get(key), dict):
            block[key] = {}
        block = block[key]
    block[last] = copy.deepcopy(value)
    return changed


def fewer_runs(draw: Draw, suite: Any) -> Any:
    """Without a block of `runs`, or without a label of a family."""
    changed = copy.deepcopy(suite)
    if suite.get("runs") and draw(st.booleans()):
        changed["runs"].pop(draw(st.integers(0, len(suite["runs"]) - 1)))
    else:
        family = draw(st.sampled_from(("objectives", "optimizers", "tasks", "models")))
        changed[family].pop(draw(st.sampled_from(list(changed[family]))))
    return changed


KIND = (other_number, other_word, odd_label, addition, fewer_runs)
UNKIND = (
    replaced, missing, extra, renamed_key, relabelled, other_path, huge_number, spoiled_list, nested
)  # fmt: skip


@st.composite
def mutants(draw: Draw, suites: dict[str, dict[str, Any]]) -> Any:
    """(name of the suite, what was done to it, the result): one change, or two, one after the other."""
    name = draw(st.sampled_from(sorted(suites)))
    suite = suites[name]
    done = []
    for _ in range(draw(st.sampled_from((1, 1, 2)))):
        if _spoiled(suite):
            break
        way = draw(st.sampled_from(KIND) | st.sampled_from(UNKIND))
        suite = way(draw, suite)
        done.append(way.__name__)
    return name, "+".join(done), suite


def _spoiled(suite: Any) -> bool:
    """Whether a second change would not know its way in the suite."""
    families = ("models", "tasks", "objectives", "optimizers")
    whole = all(isinstance(suite.get(key), dict) and suite[key] for key in families) and "suite" in suite
    return not whole or isinstance(suite.get("runs"), dict) or _circular(suite, ())


def _circular(part: Any, above: tuple[int, ...]) -> bool:
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return id(part) in above or any(_circular(value, (*above, id(part))) for value in inside)


def _labels(suite: Any) -> list[str]:
    families = ("models", "tasks", "objectives", "optimizers")
    return [label for family in families for label in suite[family] if isinstance(label, str)]


def _everywhere(part: Any, old: str, new: str) -> Any:
    """`part` with the text `old` as `new`, as a key too. A label that was a kind gets it as a setting."""
    if isinstance(part, list):
        return [_everywhere(value, old, new) for value in part]
    if isinstance(part, dict):
        renamed = {}
        for key, value in part.items():
            inner = _everywhere(value, old, new)
            if key == old and isinstance(value, dict | None) and not {"kind", "source"} & set(value or {}):
                inner = {"kind": old, **(inner or {})}
            renamed[new if key == old else key] = inner
        return renamed
    return new if part == old and isinstance(part, str) else part
