"""Metrics are found where they lie, and a task's run is asked for the files of those that it can have."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from pipeline_lib.core import provenance
from pipeline_lib.metrics import by_module, declared, modules_for, shown
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.study.evaluation import Evaluation

PLAIN = Evaluation().model_dump()
SPLITS = ("forget", "retain")
EXTRAS = {
    "holdout": {"membership.loss", "membership.privleak"},
    "grad_norm": {"membership.grad_norm"},
    "samples": {"sampled.leakage", "sampled.bounds", "sampled.ended"},
    "embedder": {"answer_accuracy"},
    "as_released": {"released.accuracy", "released.membership"},
    "toxicity": {"toxicity", "classifier_auc"},
    "benchmarks": {"benchmarks"},
    "inside": {"depth_score", "logit_lens"},
    "equal_retain": {"equal_retain_mix"},
}


def names(evaluation, splits=SPLITS):
    return {name.removeprefix("pipeline_lib.metrics.") for name in modules_for(evaluation, splits)}


def test_a_plain_task_has_what_its_records_tell():
    plain = names(PLAIN)
    assert {"probability", "truth_ratio", "rouge", "forget_quality", "model_utility", "perplexity"} <= plain
    assert not plain & set().union(*EXTRAS.values())
    assert not any(name.startswith(("membership.", "sampled.", "released.")) for name in plain)


@pytest.mark.parametrize("what", EXTRAS)
def test_a_setting_or_a_split_brings_its_metrics(what):
    if what == "holdout":
        more = names(PLAIN, (*SPLITS, "holdout"))
    elif what == "grad_norm":
        more = names({**PLAIN, what: True}, (*SPLITS, "holdout")) - names(PLAIN, (*SPLITS, "holdout"))
    else:
        more = names({**PLAIN, what: {"on": 1}})
    assert EXTRAS[what] <= more


def test_gradient_norms_need_records_held_out():
    assert "membership.grad_norm" not in names({**PLAIN, "grad_norm": True})


def test_toxicity_as_released_needs_both():
    both = {**PLAIN, "toxicity": {"on": 1}, "as_released": True}
    assert "released.toxicity" in names(both)
    assert "released.toxicity" not in names({**both, "toxicity": None}) | names(
        {**both, "as_released": False}
    )


def test_every_setting_and_split_that_a_metric_asks_for_exists():
    asked = {what for metrics in by_module().values() for metric in metrics for what in metric.only_with}
    assert asked == {*EXTRAS, "trajectory", "stages"}  # the last two are of metrics on a study
    assert asked - {"holdout", "stages"} <= set(Evaluation.model_fields)


def test_the_scoring_step_names_no_metric():
    """Or else a change of any metric would score the runs of every task again."""
    alone = provenance._closure("pipeline_lib.steps.score")
    names = {name.removeprefix("pipeline_lib.").replace(".", "/") for name in by_module()}
    assert not {path.relative_to(provenance.PACKAGE).with_suffix("").as_posix() for path in alone} & names


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"compute": lambda row: 0.0}, True),
        ({"trap": "another"}, True),
        ({"order": 7.5}, True),
        ({"label": "another"}, True),  # its tables have a shorter one
        ({"short_label": "another"}, False),
        ({"tables": {"collapse": 3}}, False),
        ({"decimals": 5}, False),
        ({"range": (0, 2)}, False),
        ({"needs": ()}, False),
    ],
)
def test_reporting_depends_on_what_it_shows(changes, same, monkeypatch):
    name = "refusal_rate"
    before = shown()
    metric = replace(declared()[name], **changes)
    monkeypatch.setattr("pipeline_lib.metrics.declared", lambda: {**declared(), name: metric})
    assert (shown() == before) is same


def test_what_is_for_people_is_declared_by_keywords_of_these_names():
    assert provenance.PRESENTATION - {field.name for field in fields(Metric)} == {"texts"}
    assert {"short_label", "tables", "decimals", "by_words"} <= provenance.PRESENTATION
    assert not provenance.PRESENTATION & {"name", "range", "compute", "order", "needs"}


def test_declarations_are_read_without_what_computes():
    code = (
        "import sys; from pipeline_lib.metrics import declared; declared(); "
        "heavy = {'torch', 'transformers', 'scipy', 'sacrebleu', 'rouge_score'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
