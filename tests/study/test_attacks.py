"""The block `attacks`: stages of a preset, on `original` and `retrained` too, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline_lib.stages.base import name_of
from pipeline_lib.study import Suite, dump_suite, parse_suite
from pipeline_lib.study.attacks import PRESETS, RATES
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.table import models_of, run_labels
from tests.paths import REPO
from tests.study.suites import errors, small

TASKS = {
    "authors": {"source": "fictitious", "holdout_authors": 2},
    "manners": {"source": "manners"},
    "book": {"source": "passages", "book": "generated", "retain": {"source": "generated", "n": 10}},
}
TOXICITY = {
    "toxicity": {
        "classifier": {"kind": "rude_words"},
        "prompts": {"source": "task", "split": "unseen"},
    }
}
RUNS = [
    {"tasks": ["authors"], "methods": ["GradDiff", "NPO"], "optimizers": ["adamw"]},
    {"tasks": ["book", "manners"], "methods": ["GradDiff"], "optimizers": ["sophia"]},
]


def study(attacks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    adamw = {"adamw": {"learning_rate": 1e-3}, "sophia": {"learning_rate": 1e-3}}
    objectives = {"GradDiff": None, "NPO": None}
    return small(attacks=attacks, tasks=TASKS, runs=RUNS, optimizers=adamw, objectives=objectives, **changes)


def jobs(suite: Suite) -> list[str]:
    return [job.title for job in Graph(suite).study()]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_kept_suite_spells_the_attacks_out_and_is_the_same_study(preset: str) -> None:
    suite = parse_suite(study({"preset": preset}))
    kept = yaml.safe_load(dump_suite(suite))
    assert "attacks" not in kept and list(kept["stages"]) == list(suite.stages)
    assert jobs(parse_suite(kept)) == jobs(suite)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_attack_is_made_of_retrained_and_original_too(preset: str) -> None:
    """Mixing goes toward `original`, which lies on no way to itself."""
    suite = parse_suite(study({"preset": preset}))
    made = {key.row for key in Graph(suite).models if key.after}
    by_label: dict[tuple[str, str], set[str]] = {}
    for row in made:
        by_label.setdefault((row.task, row.after), set()).add(name_of(row._replace(after="")))
    for (task, label), names in by_label.items():
        rows = {"GradDiff+adamw", "NPO+adamw"} if task == "authors" else {"GradDiff+sophia"}
        expected = rows | {"retrained"} | (set() if label.startswith("mixed") else {"original"})
        assert names == expected, (task, label)
    questions = {label for task, label in by_label if task == "book"}
    asked = {
        label
        for label, stage in suite.stages.items()
        if stage.asks and stage.samples is None and stage.soft_prompt is None
    }
    assert not questions & asked and {label for task, label in by_label if task == "manners"} >= asked


def test_presets_grow_and_each_relearns_a_half_of_the_forget_groups() -> None:
    kinds = [{s.kind for s in parse_suite(study({"preset": p})).stages.values()} for p in PRESETS]
    assert kinds[0] < kinds[1] < kinds[2]
    for preset in PRESETS:
        suite = parse_suite(study({"preset": preset}))
        learned = suite.learned_groups("authors")
        assert learned and set(learned.values()) == {0.5}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_relearning_is_judged_on_its_way_unless_the_suite_says_otherwise(preset: str) -> None:
    def judged(**attacks: Any) -> dict[str, set[int | None]]:
        found: dict[str, set[int | None]] = {}
        for stage in parse_suite(study({"preset": preset, **attacks})).stages.values():
            found.setdefault(stage.kind, set()).add(stage.judged())
        return {kind: points for kind, points in found.items() if points != {None}}

    seeds = parse_suite(study({"preset": preset, "retrained_seeds": [5]}, retrained_seeds=[5, 6])).stages
    assert all(stage.retrained_seeds == [5] for stage in seeds.values())
    assert judged() == {"finetune": {4}}
    assert judged(points=7) == {"finetune": {7}}
    assert judged(points=None) == {}


def test_the_page_names_every_attack_and_the_rates_of_each_preset() -> None:
    page = (REPO / "docs/attacks.md").read_text(encoding="utf-8")
    for preset in PRESETS:
        for label in parse_suite(study({"preset": preset})).stages:
            kind = label.partition("_")[0]
            assert f"`{label}`" in page or f"`{kind}_" in page, label
    row = next(line for line in page.splitlines() if line.startswith("| `relearn_RATE`"))
    light, standard, literature = (cell.strip() for cell in row.split("|")[3:6])
    assert [float(light)] == RATES["light"]
    assert list(map(float, standard.split(", "))) == RATES["standard"]
    low, high = map(float, literature.split(" to "))
    assert (low, high) == (min(RATES["literature"]), max(RATES["literature"]))


def test_retrained_is_attacked_with_every_seed_it_has() -> None:
    suite = parse_suite(study({"preset": "light"}, retrained_seeds=[7, 8]))
    seeds = {key.seed for key in Graph(suite).models if (key.method, key.after) == ("retrained", "int4")}
    assert seeds == {0, 1, 7, 8}
    others = {key.seed for key in Graph(suite).models if (key.method, key.after) == ("original", "int4")}
    assert others == {0, 1}


def test_rows_rates_tasks_and_labels_are_chosen() -> None:
    attacks = {
        "preset": "standard",
        "of": ["GradDiff+adamw", "GradDiff+sophia"],
        "learning_rates": [2.5e-5, 1.0],
        "leave_out": ["hints", "drawn"],
        "tasks": ["authors", "manners"],
    }
    suite = parse_suite(study(attacks))
    labels = set(suite.stages)
    assert {"relearn_2_5e-5", "relearn_1e0", "learn_holdout_1e0"} <= labels
    assert not labels & {"hints", "drawn"}
    attacked = {(key.task, name_of(key.row).split("/")[0]) for key in Graph(suite).models if key.after}
    assert attacked == {
        ("authors", "GradDiff+adamw"),
        ("manners", "GradDiff+sophia"),
        *((task, name) for task in ("authors", "manners") for name in ("original", "retrained")),
    }


@pytest.mark.parametrize(
    ("attacks", "expected"),
    [
        ({"preset": "heavy"}, "attacks.preset: found 'heavy'"),
        ({"of": ["GradDif+adamw"]}, "attacks.of: found 'GradDif+adamw'; did you mean 'GradDiff+adamw'?"),
        ({"tasks": ["author"]}, "attacks.tasks: found 'author'; did you mean 'authors'?"),
        ({"models": ["large"]}, "attacks.models: found 'large'"),
        ({"leave_out": ["int3"]}, "attacks.leave_out: found 'int3'"),
        ({"learning_rates": []}, "attacks.learning_rates: "),
    ],
)
def test_a_wrong_block_is_refused(attacks: dict[str, Any], expected: str) -> None:
    assert any(line.startswith(expected) for line in errors(study(attacks)))


def test_an_attack_has_a_label_of_its_own() -> None:
    found = errors(study({}, stages={"int4": {"kind": "quantise"}}))
    assert found == ["attacks: 'int4' is also a stage of the suite; rename that, or add it to `leave_out`"]
    suite = parse_suite(study({"leave_out": ["int4"]}, stages={"int4": {"kind": "quantise"}}))
    assert suite.stages["int4"].of is None


def test_nothing_starts_from_a_model_that_is_only_asked() -> None:
    chain = {"later": {"kind": "quantise", "of": ["GradDiff+adamw/opening"], "tasks": ["authors"]}}
    (line,) = errors(study({}, stages=chain))
    assert line == (
        "stages.later.of: GradDiff+adamw/opening is a model asked in another way, and no new model"
    )
    after = {"asked": {"kind": "ask", "hints": 1, "of": ["GradDiff+adamw/int4"], "tasks": ["authors"]}}
    models = Graph(parse_suite(study({}, stages=after))).models
    assert {key.after for key in models} >= {"int4/asked"}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({}, "stages.a.kind: asks as always; set one of opening, true_words, questions"),
        ({"questions": ["Say it"]}, "stages.a.questions.0: found 'Say it'; a phrasing holds {prompt} once"),
        ({"questions": ["{prompt}"], "questions_file": "x"}, "stages.a.questions_file: goes without"),
        ({"samples": 1}, "stages.a.samples: found 1"),
        ({"soft_prompt": {"tokens": 0}}, "stages.a.soft_prompt.tokens: found 0"),
        ({"soft_prompt": {"groups": 1.0}}, "stages.a.soft_prompt.groups"),
        ({"soft_prompt": {"targets": "anything"}}, "stages.a.soft_prompt.targets: found 'anything'"),
        ({"kind": "quantise", "format": "fp16", "group": 4}, "stages.a.group: fp16 has no scales"),
        ({"of": ["NPO adamw"], "hints": 1}, "stages.a.of.0: found 'NPO adamw'; expected the name of a"),
    ],
)
def test_a_wrong_way_of_asking_is_refused(stage: dict[str, Any], expected: str) -> None:
    found = errors(small(stages={"a": {"kind": "ask", **stage}}))
    assert any(line.startswith(expected) for line in found), found


def test_what_is_drawn_under_attack_has_its_metrics_and_its_table() -> None:
    suite = parse_suite(study({"preset": "standard", "of": ["NPO+adamw"], "tasks": ["authors"]}))
    graph, place = Graph(suite), "authors/tiny/NPO/adamw/seed0"
    leakage = "pipeline_lib.metrics.sampled.leakage"
    assert leakage in graph.jobs["score", f"{place}.drawn"].code
    assert leakage not in graph.jobs["score", f"{place}.opening"].code
    assert ("table", "samples") in graph.jobs
    assert ("table", "samples") not in Graph(parse_suite(study({"preset": "light"}))).jobs


def test_a_row_that_is_asked_has_no_model_of_its_own() -> None:
    graph = Graph(parse_suite(study({})))
    place = "authors/tiny/GradDiff/adamw/seed0"
    ask, evaluate = (graph.jobs[rule, f"{place}.opening"] for rule in ("ask", "evaluate"))
    assert set(ask.outputs) == {"steps", "run"}
    assert evaluate.inputs["model"] == f"models/{place}"
    assert evaluate.settings["ask"]["opening"] == "Sure, here is the answer:"
    assert "pipeline_lib.engine.asked_otherwise" in evaluate.code
    assert "ask" not in graph.jobs["evaluate", place].settings


def test_a_soft_prompt_is_learned_where_it_is_asked_and_judged_by_the_other_groups() -> None:
    suite = parse_suite(study({"preset": "literature", "tasks": ["authors", "book"]}))
    graph, place = Graph(suite), "authors/tiny/GradDiff/adamw/seed0"
    soft, control, opening = (
        graph.jobs["evaluate", f"{place}.{label}"] for label in ("soft_prompt", "soft_random", "opening")
    )
    learner = "pipeline_lib.engine.soft_prompt"
    assert learner in soft.code and learner in control.code and learner not in opening.code
    assert "soft_prompt" not in opening.settings["ask"]
    settings = [job.settings["ask"]["soft_prompt"] for job in (soft, control)]
    assert [each.pop("targets") for each in settings] == ["answers", "random"] and settings[0] == settings[1]
    for task in ("authors", "book"):
        learned = suite.learned_groups(task)
        assert learned["soft_prompt"] == learned["soft_random"] == 0.5 and "opening" not in learned
    for preset in ("light", "standard"):
        assert not {"soft_prompt", "soft_random"} & parse_suite(study({"preset": preset})).stages.keys()


def test_attacked_models_can_be_judged_by_likelihood_alone() -> None:
    """Toxicity is then not measured of the models that attacks make; answers are drawn where `drawn` asks."""
    manners = {**TASKS["manners"], "evaluation": TOXICITY}
    given = study({"preset": "standard", "likelihood_only": True}, evaluation={"samples": {"n": 2}})
    suite = parse_suite(given | {"tasks": {**TASKS, "manners": manners}})
    assert {label for label, stage in suite.stages.items() if not stage.likelihood_only} == {"drawn"}
    assert parse_suite(yaml.safe_load(dump_suite(suite))).stages == suite.stages
    graph, plain = Graph(suite).jobs, "authors/tiny/NPO/adamw/seed0"
    assert {run["after"] for run in run_labels(models_of(suite)) if run.get("draws_only")} == {"drawn"}
    for label in ("int4", "begun", "relearn_1e-4", "learn_retain_2e-5"):
        for run in (plain, "authors/tiny/retrained/none/seed0"):
            settings = graph["evaluate", f"{run}.{label}"].settings
            assert settings["likelihood_only"] is True and settings["evaluation"]["samples"] is None
    for label in ("", ".drawn"):
        settings = graph["evaluate", f"{plain}{label}"].settings
        assert "likelihood_only" not in settings and settings["evaluation"]["samples"]["n"] == 2
    rude = "manners/tiny/GradDiff/sophia/seed0"
    measured = {name for rule, name in graph if rule == "toxicity" and name.startswith(rude)}
    assert measured == {rude}
    assert "toxicity" in graph["score", rude].inputs
    assert "toxicity" in graph["score", f"{rude}.begun"].inputs, "the model's own, asked in another way"
    assert "toxicity" not in graph["score", f"{rude}.int4"].inputs


def test_how_a_model_is_judged_changes_nothing_in_how_it_is_made() -> None:
    place = "authors/tiny/NPO/adamw/seed0.int4"
    one, other = (
        Graph(parse_suite(study({"likelihood_only": alone}))).jobs["stage", place] for alone in (True, False)
    )
    assert one == other


def test_drawn_answers_are_no_likelihood() -> None:
    asked = {"kind": "ask", "samples": 4, "likelihood_only": True}
    message = "stages.a.likelihood_only: found true, but `samples` are answers; leave one of the two out"
    assert message in errors(small(stages={"a": asked}))
