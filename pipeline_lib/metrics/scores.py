"""From per-example records to metrics with intervals. Needs no model and no torch.

The metrics' declarations, the task's manifest and the fields of the rows decide what is computed on which
split. Missing data is an error, with these exceptions:
    needs           a metric that would say nothing true of a record or a split (needs.py) is not
                    measured there: a truth ratio without wrong answers, English refusals in Chinese, TPR at
                    1 % FPR with 40 non-members. `not_measured` says which and why. If a split without truth
                    ratios counts towards Model Utility, that is an error again.
    optional parts  (samples, similarities, gradient norms, the paper's own protocol) are there or not for a
                    whole split, as the settings of the evaluation say; part of a split is an error.
    no `retrained`  reference_rows None: nothing that compares with it. Rows without the records that are
                    needed are an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import measures
from pipeline_lib.metrics.asked import benchmark_splits, inside_split, toxicity_split
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.questions import block_rows, question_rows
from pipeline_lib.metrics.rows import Row, by_split, check_row, matched
from pipeline_lib.metrics.subjects import Asked, Pair, Run, Split, Subject
from pipeline_lib.metrics.words import words


class Scored(NamedTuple):
    """The lists `metrics` and `not_measured` of metrics.json for one model, and its lines of scores.csv."""

    metrics: list[Row]
    not_measured: list[Row]
    questions: list[Row]


def score_all(
    rows: list[Row],
    reference_rows: list[Row] | None,
    manifest: dict[str, Any],
    equal_retain: Row | None = None,
    toxicity_rows: list[Row] | None = None,
    benchmark_rows: list[Row] | None = None,
    judge: Row | None = None,
    inside: tuple[list[Row], list[Row] | None] | None = None,
) -> Scored:
    """What can be said of one model without the other models of its study (study.py), but for `retrained`.

    `rows` are the model's records of all evaluated splits, `reference_rows` those of `retrained` (its forget
    split and the non-members; None: no metric that compares with it), `manifest` the task's
    data/<task>/manifest.json (`likelihood_only`, `membership` and `preference` may be absent: no such
    splits), `equal_retain` the content of equal_retain.json (None or its status "off": no such rows),
    `toxicity_rows` and `benchmark_rows` what these evaluations wrote (None: not measured), `inside` what was
    found inside the model and inside `retrained`, `judge` the content of the toxicity
    classifier's file judges/<task>.json.
    An entry of the second list says what a metric needs and how many (`not_measured`) of the split's records
    (`of`) lack it; where all lack it, the metric has no row in the first.
    """
    mix = equal_retain if equal_retain is not None and equal_retain["status"] == "ok" else None
    run = Run(manifest, _splits(rows, manifest), reference_rows, mix, judge)
    benchmarks = [] if benchmark_rows is None else benchmark_splits(benchmark_rows)
    subjects: dict[str, Sequence[Subject]] = {
        "records": list(run.splits.values()),
        "run": [run],
        "study": [],  # when all models are there
        "toxicity": [] if toxicity_rows is None else [toxicity_split(toxicity_rows)],
        "benchmarks": benchmarks,
        "inside": [] if inside is None else [inside_split(*inside)],
        "mixed": [] if mix is None else [_mixed(run, mix)],
        "kept": [] if mix is None else [Asked.of(mix["retain"][0]["split"], mix["retain"])],
    }
    results = []
    for (on, paired), metrics in groupby(measures(), key=lambda metric: (metric.on, metric.of == "pair")):
        chosen = list(metrics)
        for subject in _pairs(subjects[on], reference_rows) if paired else subjects[on]:
            results += [row for metric in chosen for row in subject.measure(metric)]
    found = [row for row in results if "not_measured" not in row]
    lacking = [row for row in results if "not_measured" in row]
    return Scored(found, lacking, [*question_rows(run.splits), *block_rows(benchmarks)])


def _splits(rows: list[Row], manifest: dict[str, Any]) -> dict[str, Split]:
    asked = [row for row in rows if "prompt" in row and "answer" in row]
    vocabulary = {word for row in asked for text in (row["prompt"], row["answer"]) for word in words(text)}
    return {
        name: Split.of(
            name,
            found,
            multiple_choice=name in manifest["multiple_choice"],
            preference=name in manifest.get("preference", []),
            vocabulary=vocabulary,
        )
        for name, found in by_split(rows, manifest["evaluate"], manifest.get("likelihood_only", [])).items()
    }


def _mixed(run: Run, mix: Row) -> Split:
    """The forget set under the model at equal retention."""
    for row in mix["forget"]:
        check_row(row)
    if [row["id"] for row in mix["forget"]] != [row["id"] for row in run.splits[FORGET_SPLIT].rows]:
        raise UserError(
            "records.jsonl and equal_retain.json hold different forget questions: run the evaluation of this "
            "model again."
        )
    choice = FORGET_SPLIT in run.manifest["multiple_choice"]
    return Split.of(FORGET_SPLIT, mix["forget"], multiple_choice=choice)


def _pairs(splits: Sequence[Subject], reference_rows: list[Row] | None) -> Iterator[Pair]:
    return (
        Pair(split, matched(split.rows, reference_rows, split.name, "forget question"))
        for split in splits
        if isinstance(split, Split) and split.name == FORGET_SPLIT and reference_rows is not None
    )
