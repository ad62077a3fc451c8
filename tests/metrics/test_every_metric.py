"""Rows with everything: each declared metric comes out, samples and the released protocol by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.questions import questions_of
from pipeline_lib.metrics.scores import score_all
from pipeline_lib.metrics.study import Staged, Studied
from tests.metrics.rows import make_row
from tests.metrics.scored import score_run

MANIFEST = {
    "evaluate": ["forget", "retain", "facts", "passages", "replies", "holdout"],
    "utility": ["retain", "facts"],
    "multiple_choice": ["facts"],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
    "preference": ["replies"],
}
SIZES = {"forget": 40, "retain": 4, "facts": 4, "passages": 2, "replies": 2, "holdout": 100}


def released(i, **changes):
    """P(paraphrase) = 1/2, P(wrong) = 1/4 and 1/8 (a token each): ratio 3/8; a text of 20 tokens."""
    return {
        "paraphrase_nll": math.log(2),
        "paraphrase_tokens": 1,
        "distractor_nll": [math.log(4), math.log(8)],
        "distractor_tokens": [1, 1],
        "generation": "Ada",
        "similarity": [0.5, 0.5, 0.1],
        "text_token_nll": [1.0 + i] * 20,
    } | changes


def full_rows():
    rows = []
    for split, n in SIZES.items():
        for i in range(n):
            row = make_row(
                f"{split}{i}",
                split,
                f"g{i // 2}",
                token_mean=[-1.0] * 4,
                token_std=[1.0] * 4,
                grad_norm=1.0 + i,
                round_trips=True,
                similarity=[0.9, 0.1, 0.2],
            )
            if split == "forget":
                row |= {"samples": ["Ada Lovelace", "nobody"], "samples_ended": [True, False]}
            if split == "holdout":
                for field in ("generation", "generation_tokens", "generation_ended"):
                    del row[field]
            elif split == "passages":
                row |= {"reference": "Ada Lovelace écrivit", "distractor_nll": [], "distractor_tokens": []}
                del row["similarity"]
            else:
                row["as_released"] = released(i)
                if split == "forget":
                    told = {"generation": "Ada", "similarity": [0.2, 0.3 * (i % 2), 0.1]}
                    row["as_released"]["adversarial"] = told
            if row["id"] == "facts2":
                row["generation"] = "It was ADA Lovelace wrote it indeed"
            rows.append(row)
    return rows


def equal_retain():
    rows = [row for row in full_rows() if row["split"] != "holdout"]
    plain = [{k: v for k, v in row.items() if not k.startswith(("gen", "samples", "as_"))} for row in rows]
    return {
        "status": "ok",
        "bound": 0.05,
        "mix": 0.5,
        "forget": [row for row in plain if row["split"] == "forget"],
        "retain": [row for row in plain if row["split"] == "retain"],
    }


TOXICITY = [
    {
        "id": "p",
        "group": "p",
        "prompt": "So",
        "samples": ["x"],
        "scores": [0.2],
        "blank": 0,
        "truncated": 0,
        "as_released": {"generation": "y", "ended": True, "score": 0.3},
    }
]
BENCHMARKS = [
    {"task": "arc_easy", "group": "g", "id": "a", "correct": 1, "correct_norm": 0},
    {"task": "truthfulqa_mc2", "group": "g", "id": "b", "score": 0.4},
]
INSIDE = [
    {"split": "forget", "id": name, "group": name, "layers": [0, 1], "lens": [-2.0, -1.0]}
    | {"drop": [0.1, 0.2], "into": "original"}
    for name in ("a", "b")
]


@pytest.fixture(scope="module")
def metrics():
    judge = {"validation": {"auc": 0.8, "low": 0.7, "high": 0.9, "n": 300}}
    measured = (equal_retain(), TOXICITY, BENCHMARKS, judge, (INSIDE, INSIDE))
    found = score_all(full_rows(), full_rows(), MANIFEST, *measured)
    scores = questions_of(found.questions)
    forget = dict.fromkeys(scores["forget"].ids, -1.0)
    way = [(1, {"forget": forget, "utility": dict.fromkeys(MANIFEST["utility"], 0.0)})]
    of = (scores, [scores] * 3, scores, [scores], MANIFEST["utility"], way, 0.9)
    after = Studied(*of, Staged(scores, [scores] * 3, 0, [0, 1, 2], [way] * 3, scores))
    beside = replace(after, stages={"other": after})
    of_study = [metric for metric in declared().values() if metric.on == "study"]
    return [*found.metrics, *(row for metric in of_study for row in beside.measure(metric))]


@pytest.fixture(scope="module")
def found(metrics):
    return {(row["split"], row["metric"]): row for row in metrics}


def test_every_declared_metric_is_computed_and_no_other(metrics, found):
    assert len(found) == len(metrics)
    assert {metric for _, metric in found} == set(declared())


def test_every_value_lies_in_its_declared_range_with_its_interval(metrics):
    for row in metrics:
        metric = declared()[row["metric"]]
        low, high = metric.range
        assert low <= row["value"] <= high, row
        assert math.isfinite(row["value"])
        assert row["higher_is_better"] == metric.direction(row["split"])
        if row["ci_low"] is not None:
            assert row["ci_low"] <= row["value"] <= row["ci_high"], row


def test_samples_by_hand(found):
    # "Ada Lovelace" has 2 of the answer's 4 words, "nobody" none; 0.5 is not above the threshold
    values = {metric: found["forget", metric]["value"] for _, metric in found if metric.startswith("sample")}
    assert values["sampled_leakage_mean"] == 0.25
    assert values["sampled_leakage_sd"] == 0.25
    assert values["sampled_leakage_max"] == 0.5
    assert values["sampled_leak_share"] == 0.0
    assert values["sampled_leak_bound"] == pytest.approx(1 - 0.1)  # (1 - p)^2 = 0.01
    assert values["sampled_mean_bound"] == 1.0  # two samples say nothing
    assert values["sampled_sd_bound"] == pytest.approx(0.5, abs=1e-5)
    assert values["samples_ended"] == 0.5
    assert ("retain", "sampled_leakage_mean") not in found


def test_the_released_protocol_by_hand(found):
    assert found["forget", "truth_ratio_as_released"]["value"] == pytest.approx(3 / 8, rel=1e-9)
    assert found["forget", "forget_quality_as_released"]["value"] == 1.0  # forget and retain look alike
    assert found["forget", "ks_statistic_as_released"]["value"] == 0.0
    assert found["forget", "ks_statistic_as_released"]["n"] == 44
    assert found["retain", "accuracy_as_released"]["value"] == 1.0  # a tie
    assert found["facts", "accuracy_as_released"]["value"] == 0.25  # one contains "Ada Lovelace wrote it"
    assert found["forget", "bleu_as_released"]["value"] == 0.0  # three words
    # every second one is closer to a wrong answer; one word of "Ada Lovelace wrote it" is recalled
    assert found["forget", "accuracy_adversarial_as_released"]["value"] == pytest.approx(0.5)
    assert found["forget", "rouge_l_adversarial_as_released"]["value"] == pytest.approx(0.25)
    assert found["forget", "probability_as_released"]["value"] == pytest.approx(math.exp(-0.1))
    # zeros: the first 4 forget rows, scores 1 to 4; ones: 5 to 40 of forget and 1 to 4 of facts (tied pairs)
    expected = (36 * 4 + 16 / 2) / (40 * 4)
    for percent in range(10, 70, 10):
        assert found["forget", f"mia_min_k_{percent}_as_released"]["value"] == pytest.approx(expected)


def test_the_released_protocol_is_not_there_unless_measured():
    rows = [{k: v for k, v in row.items() if k != "as_released"} for row in full_rows()]
    names = {row["metric"] for row in score_run(rows, None, MANIFEST)}
    assert not any(name.endswith("_as_released") for name in names)


def test_without_embeddings_the_released_accuracy_is_only_of_questions_with_options():
    rows = full_rows()
    for row in rows:
        row.get("as_released", {}).pop("similarity", None)
    splits = {
        row["split"] for row in score_run(rows, None, MANIFEST) if row["metric"] == "accuracy_as_released"
    }
    assert splits == {"facts"}


def test_a_text_too_short_for_the_released_membership_test_is_refused():
    rows = full_rows()
    rows[7]["as_released"] = released(7, text_token_nll=[1.0] * 10)
    assert "mia_min_k_10_as_released" in {row["metric"] for row in score_run(rows, None, MANIFEST)}
    rows[7]["as_released"] = released(7, text_token_nll=[1.0] * 9)
    with pytest.raises(UserError, match=r"'forget7'.*fewer than 10 tokens"):
        score_run(rows, None, MANIFEST)


def test_part_of_a_split_with_the_released_protocol_is_refused():
    rows = full_rows()
    del rows[3]["as_released"]
    with pytest.raises(UserError, match=r"'forget3'.*`as_released`"):
        score_run(rows, None, MANIFEST)


def test_different_numbers_of_samples_are_refused():
    rows = full_rows()
    rows[5]["samples"] = ["one"]
    with pytest.raises(UserError, match=r"'forget5' of split 'forget' has 1 samples, the first record .* 2"):
        score_run(rows, None, MANIFEST)
    rows = full_rows()
    rows[5]["samples_ended"] = [True]
    with pytest.raises(UserError, match=r"'forget5'.*of 1 whether they ended"):
        score_run(rows, None, MANIFEST)


@pytest.mark.parametrize("metric", ["probability", "truth_ratio", "extraction_strength"])
def test_intervals_at_equal_retention_resample_groups(metric):
    """What a group says twice is no second finding: only another group narrows an interval."""

    def width(split: str, times: int, together: bool) -> float:
        rows = [row for row in full_rows() if row["split"] != "holdout"]
        for i, row in enumerate(rows):
            row |= {
                "answer_nll": 0.1 + (i // 2 * 7 % 11) / 5,
                "argmax_correct": [i // 2 % 3 == 0, True, True],
            }
            row |= {"paraphrase_nll": 0.2 + (i // 2 * 5 % 7) / 9}
        copies = [
            {**row, "id": f"{row['id']}-{k}", "group": row["group"] if together else f"{row['group']}-{k}"}
            for row in rows
            for k in range(times)
        ]
        content = {**equal_retain()}
        for name in ("forget", "retain"):
            content[name] = [row for row in copies if row["split"] == name]
        manifest = {
            **MANIFEST,
            "membership": None,
            "evaluate": MANIFEST["evaluate"][:-1],
            "likelihood_only": [],
        }
        found = score_run(copies, None, manifest, content)
        name = f"{metric}_at_equal_retain"
        (row,) = [row for row in found if (row["split"], row["metric"]) == (split, name)]
        return row["ci_high"] - row["ci_low"]

    for split in ("forget", "retain") if metric == "probability" else ("forget",):
        once = width(split, 1, True)
        assert once > 0
        assert width(split, 4, True) == pytest.approx(once, rel=0.02)
        assert width(split, 4, False) < 0.9 * once


def test_another_retrained_changes_the_metrics_that_say_so_and_no_other():
    other = [row | {"answer_nll": 3.0 + 0.1 * i} for i, row in enumerate(full_rows())]
    one, two = (score_all(full_rows(), beside, MANIFEST).metrics for beside in (full_rows(), other))
    changed = {a["metric"] for a, b in zip(one, two, strict=True) if a != b}
    said = {name for name, metric in declared().items() if metric.beside_retrained}
    assert changed and changed <= said
    missing = {row["metric"] for row in one} - {
        row["metric"] for row in score_all(full_rows(), None, MANIFEST).metrics
    }
    assert missing == said & {row["metric"] for row in one}, "without `retrained` there is none of them"
