"""What a researcher reads when a suite is wrong: the field's path, what was found, what is allowed."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.study import parse_suite
from tests.study.suites import COMMIT, error, errors, small


def adamw(**settings: Any) -> dict[str, Any]:
    return small(optimizers={"adamw": settings})


# --- names ------------------------------------------------------------------------------------------


def test_a_misspelt_key_at_the_top() -> None:
    raw = small(optimizer={"adamw": {"learning_rate": 1e-4}})
    assert error(raw) == (
        "optimizer: unknown key 'optimizer'; did you mean 'optimizers'? Allowed: attacks, comparisons, "
        "evaluation, finetune, models, objectives, optimizers, preset, resources, retrained_seeds, runs, "
        "seeds, stages, suite, tasks, tracking, tune, unlearn"
    )


def test_a_misspelt_key_in_an_optimizer() -> None:
    assert error(adamw(learning_rate=1e-4, beta3=0.9)) == (
        "optimizers.adamw.beta3: unknown key 'beta3'; did you mean 'beta2'? "
        "Allowed: beta1, beta2, eps, kind, learning_rate, smoothing, weight_decay"
    )


def test_the_allowed_keys_of_a_block_are_listed_once() -> None:
    first, second = errors(adamw(learning_rate=1e-4, quux=1, zyzzy=2))
    assert first.startswith("optimizers.adamw.quux: unknown key 'quux'; allowed: beta1, ")
    assert second == "optimizers.adamw.zyzzy: unknown key 'zyzzy'; the keys allowed here are listed above"


def test_every_fault_has_a_line() -> None:
    raw = small(optimizers={"adamw": {"learning_rat": 1}}, taks={}, seeds=[-1])
    assert [line.partition(":")[0] for line in errors(raw)] == [
        "seeds.0",
        "optimizers.adamw.learning_rate",
        "optimizers.adamw.learning_rat",
        "taks",
    ]


def test_a_misspelt_kind() -> None:
    raw = small(optimizers={"mine": {"kind": "adam", "learning_rate": 1e-4}})
    assert error(raw) == (
        "optimizers.mine.kind: found 'adam'; did you mean 'adamw'? "
        f"Allowed: {', '.join(sorted(OPTIMIZERS.kinds()))}"
    )


def test_a_label_that_is_no_kind_needs_one() -> None:
    assert error(small(optimizers={"adam": {"learning_rate": 1e-4}})) == (
        "optimizers.adam: needs the key `kind`, because adam is not the name of one; did you mean 'adamw'? "
        f"Allowed: {', '.join(sorted(OPTIMIZERS.kinds()))}"
    )
    assert error(small(models={"tiny": {}})) == (
        "models.tiny: needs the key `source`; allowed: folder, gguf, hub, scratch"
    )


def test_a_label_that_is_a_kind_must_be_of_it() -> None:
    assert error(small(optimizers={"adamw": {"kind": "sophia", "learning_rate": 1e-4}})) == (
        "optimizers.adamw: names a kind, but is of kind 'sophia'; choose another label"
    )


def test_a_misspelt_choice_and_source_and_preset() -> None:
    assert error(small(unlearn={"decay": "liner"})) == (
        "unlearn.decay: found 'liner'; did you mean 'linear'? Allowed: constant, cosine, linear"
    )
    assert error(small(tasks={"t": {"source": "tofoo"}})) == (
        "tasks.t.source: found 'tofoo'; did you mean 'tofu'? "
        "Allowed: detox, fictitious, files, manners, passages, tofu"
    )
    for preset, found in (
        ("tyni", "found 'tyni'; did you mean 'tiny'? Allowed"),
        (["tiny"], "found a list; allowed"),
    ):
        with pytest.raises(UserError, match=f"^preset: {found}: smollm2, tiny$".replace("?", r"\?")):
            parse_suite(small(preset=preset))


@pytest.mark.parametrize("label", ["original", "retrained", "Original"])
def test_reserved_objectives(label: str) -> None:
    assert f"objectives.{label}: {label!r} has a meaning of its own" in error(
        small(objectives={label: {"kind": "GradDiff"}})
    )


def test_other_reserved_names() -> None:
    none = small(optimizers={"none": {"kind": "adamw", "learning_rate": 1e-4}})
    assert error(none).startswith("optimizers.none: 'none' has a meaning of its own")
    assert error(small(suite="reference")).startswith("suite: 'reference' is reserved")


def test_labels_that_differ_in_case_alone_would_share_a_folder() -> None:
    raw = small(objectives={"GradDiff": None, "graddiff": {"kind": "GradDiff", "gamma": 5}})
    assert error(raw).startswith("objectives.graddiff: differs from 'GradDiff' in case alone")


@pytest.mark.parametrize(
    "name", ["a/b", "a b", ".hidden", "a;rm", "$(x)", "../up", "größe", "", "a\n", "x" * 65]
)
def test_names_become_folders(name: str) -> None:
    assert error(small(suite=name)).startswith(
        f"suite: found {name!r}; a name becomes a folder: up to 64 letters"
    )
    line = error(small(tasks={name: {"source": "fictitious"}}))
    assert line.startswith("tasks.")
    assert f": found {name!r}; a name becomes a folder" in line


def test_what_yaml_takes_for_something_else_wants_quotes() -> None:
    assert error(small(suite=2024)) == "suite: found 2024; expected text; put it in quotes"
    assert error(small(suite=datetime.date(2024, 1, 31))) == (
        "suite: found the date 2024-01-31; expected text; put it in quotes"
    )
    assert error(small(suite=None)) == "suite: found nothing; expected text"
    assert "models.1: found 1; expected text" in error(small(models={1: {"source": "scratch"}}))


def test_a_revision_is_a_commit() -> None:
    hub = {"source": "hub", "id": "owner/name"}
    parse_suite(small(models={"m": {**hub, "revision": COMMIT}}))
    assert error(small(models={"m": {**hub, "revision": "main"}})) == (
        "models.m.revision: found 'main'; expected the 40 digits and letters a-f of a commit; "
        "a branch or tag can change"
    )
    assert error(small(models={"m": {**hub, "id": "a b", "revision": COMMIT}})).startswith(
        "models.m.id: found 'a b'"
    )
    assert error(small(models={"m": hub})) == "models.m.revision: is missing and has no default"


# --- numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1e-4, "found -0.0001; must be greater than 0"),
        (0, "found 0; must be greater than 0"),
        ("fast", "found 'fast'; expected a number"),
        (float("nan"), "found nan; expected a finite number"),
        (float("inf"), "found inf; expected a finite number"),
        ("1e999", "found '1e999'; expected a finite number"),
        (True, "found true (or yes, on); expected a number"),
        (False, "found false (or no, off); expected a number"),
        (None, "found nothing; expected a number"),
        ([1e-4], "found a list; expected a number"),
        ({"max": 1}, "found a block; expected a number"),
    ],
)
def test_a_bad_learning_rate(value: Any, message: str) -> None:
    assert error(adamw(learning_rate=value)) == f"optimizers.adamw.learning_rate: {message}"


def test_a_learning_rate_is_asked_for() -> None:
    assert error(adamw()) == "optimizers.adamw.learning_rate: is missing and has no default"
    assert error(small(optimizers={"adamw": None})).startswith("optimizers.adamw.learning_rate: is missing")


def test_a_number_that_yaml_reads_as_text_is_a_number() -> None:
    settings = parse_suite(adamw(learning_rate="5e-6")).optimizers["adamw"]
    assert settings.learning_rate == 5e-6


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "found 0; must be greater than 0"),
        (8.5, "found 8.5; expected a whole number"),
        (True, "found true (or yes, on); expected a whole number"),
        (10**20, "found 100000000000000000000; must be smaller than 2147483648"),
        ("eight", "found 'eight'; expected a whole number"),
    ],
)
def test_a_bad_batch_size(value: Any, message: str) -> None:
    assert error(small(unlearn={"batch_size": value})) == f"unlearn.batch_size: {message}"


def test_a_number_that_python_does_not_print() -> None:
    assert error(small(seeds=[16**5000])) == (
        "seeds.0: found a number of thousands of digits; must be smaller than 2147483648"
    )


def test_shares_and_switches() -> None:
    assert error(small(unlearn={"warmup": 1})) == "unlearn.warmup: found 1; must be smaller than 1"
    assert error(small(resources={"keep_models": "sure"})) == (
        "resources.keep_models: found 'sure'; expected true or false"
    )


def test_more_is_forgotten_than_there_is() -> None:
    task = {"source": "fictitious", "n_authors": 10, "forget_authors": 10}
    assert error(small(tasks={"t": task})) == (
        "tasks.t.forget_authors: found 10; must be smaller than `n_authors` (10), so that some remain"
    )


def test_heads_must_fit() -> None:
    def model(**sizes: int) -> dict[str, Any]:
        return small(models={"tiny": {"source": "scratch", **sizes}})

    assert error(model(hidden_size=132)) == (
        "models.tiny.hidden_size: found 132; must be a multiple of 8, twice the number of `heads`"
    )
    assert error(model(kv_heads=3)) == "models.tiny.kv_heads: found 3; must divide `heads` (4)"
    parse_suite(model(hidden_size=48, heads=6, kv_heads=2))


# --- prompts ----------------------------------------------------------------------------------------


def prompt(**settings: Any) -> dict[str, Any]:
    return small(models={"tiny": {"source": "scratch", "prompt": settings}})


@pytest.mark.parametrize("template", ["Question:", "{prompt} {prompt}", "{ prompt }"])
def test_a_template_holds_the_prompt_once(template: str) -> None:
    assert error(prompt(template=template)) == (
        f"models.tiny.prompt.template: found {template!r}; must hold {{prompt}} exactly once"
    )


def test_settings_of_the_other_kind_of_prompt() -> None:
    assert error(prompt(kind="chat", template="{prompt}")) == (
        "models.tiny.prompt.template: goes with `kind: template`, and this prompt is of kind chat"
    )
    for name, value in (("system", "Be brief."), ("date", "10 Apr 2025"), ("chat_template", "rag")):
        assert error(prompt(**{name: value})) == (
            f"models.tiny.prompt.{name}: goes with `kind: chat`; write it into `template` instead"
        )


@pytest.mark.parametrize("date", ["2025-04-10", "10 April 2025", "31 Feb 2025", "10 Avr 2025", "today"])
def test_a_date_is_written_as_templates_print_it(date: str) -> None:
    assert error(prompt(kind="chat", date=date)) == (
        f"models.tiny.prompt.date: expected a date such as '26 Jul 2024', in English, found {date!r}"
    )


def test_a_pretrained_model_keeps_its_chat_format_unless_told() -> None:
    """`prompt: {system: ...}` alone must not turn a chat model into one with a template."""
    suite = parse_suite(
        small(models={"m": {"source": "folder", "path": "x", "prompt": {"system": "Be brief."}}})
    )
    assert suite.models["m"].prompt.model_dump() == {
        "kind": "chat",
        "template": None,
        "system": "Be brief.",
        "answer_prefix": "",
        "date": "26 Jul 2024",
    }
    scratch = parse_suite(small()).models["tiny"].prompt
    assert (scratch.kind, scratch.answer_prefix) == ("template", "")
    assert scratch.template == "<user>{prompt}<assistant>"


# --- shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", ["models", "tasks", "objectives", "optimizers"])
def test_empty_and_wrong_blocks(block: str) -> None:
    assert error(small(**{block: {}})) == f"{block}: found an empty block; must not be empty"
    expected = "expected a block of `name: value` lines"
    assert error(small(**{block: ["a"]})) == f"{block}: found a list; {expected}"
    assert error(small(**{block: None})) == f"{block}: found nothing; {expected}"
    assert (
        error(small(**{block: {"x": {"kind": 3, "source": 3}}}))
        .partition(": ")[2]
        .startswith("found 3; allowed: ")
    )


def test_empty_and_wrong_seeds() -> None:
    assert error(small(seeds=[])) == "seeds: found an empty list; must not be empty"
    assert error(small(seeds=3)) == "seeds: found 3; expected a list, such as [a, b]"
    assert errors(small(seeds=[2, 0, 2])) == ["seeds: the seed 2 appears 2 times"]


def test_an_optional_block_with_nothing_in_it_has_its_defaults() -> None:
    """All lines below `evaluation:` commented out: YAML reads null."""
    suite = parse_suite(small(evaluation=None, unlearn=None, finetune=None, resources=None))
    assert suite == parse_suite(small())


def test_a_limit_for_a_split_that_is_not_there() -> None:
    limits = {"max_records": {"forget": 8, "reatin": 8}}
    assert error(small(evaluation=limits)) == (
        "evaluation.max_records.reatin: no task evaluates such a split; did you mean 'retain'? "
        "Allowed: facts, forget, retain"
    )
    assert error(small(evaluation={"max_records": {"forget": 0}})).startswith(
        "evaluation.max_records.forget: found 0"
    )
    parse_suite(small(evaluation={"max_records": {"facts": 8}}))


@pytest.mark.parametrize(
    ("raw", "found"), [(None, "nothing"), ([1], "a list"), ("text", "'text'"), ({}, "an empty block")]
)
def test_a_suite_is_a_block(raw: Any, found: str) -> None:
    with pytest.raises(UserError, match=f"^a suite is a block of `name: value` lines, found {found}$"):
        parse_suite(raw)
