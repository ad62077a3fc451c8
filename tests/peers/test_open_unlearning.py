"""OpenUnlearning's files: written from records in its definitions, and read back in ours."""

from __future__ import annotations

import copy
import json
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import ks_2samp

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.extraction_strength import extraction_strength
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.model_utility import harmonic_mean
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.rouge import rouge_recall
from pipeline_lib.metrics.truth_ratio import forget_score, log_truth_ratio, truth_score
from pipeline_lib.peers.open_unlearning.export import export, write_export
from pipeline_lib.peers.open_unlearning.membership import auc_of_losses
from pipeline_lib.peers.open_unlearning.read import read_log, recompute
from tests.peers.made_up import BIT, MANIFEST, records, save


def forget_row(logs: dict[str, Any], name: str, row: int = 0) -> Any:
    return logs[name]["value_by_index"][str(row)]


def test_values_of_one_row_by_hand():
    logs, left_out = export(records(), MANIFEST)
    assert forget_row(logs, "forget_Q_A_Prob") == pytest.approx({"prob": 0.5, "avg_loss": BIT})
    wrong = forget_row(logs, "forget_Q_A_PERT_Prob")
    assert wrong["prob"] == pytest.approx([1 / 4, 1 / 16])
    assert wrong["avg_loss"] == pytest.approx([2 * BIT, 4 * BIT])
    # wrong over right: sqrt(1/4 * 1/16) / (1/2 + 1e-10)
    assert forget_row(logs, "forget_truth_ratio")["score"] == pytest.approx(0.25, rel=1e-9)
    assert forget_row(logs, "ra_Q_A_Prob_normalised")["prob"] == pytest.approx(0.5 / 0.8125, rel=1e-9)
    # Without the end token: wrong, right. One of two, extractable from the first on.
    assert forget_row(logs, "exact_memorization") == {"score": 0.5}
    assert forget_row(logs, "extraction_strength") == {"score": 0.5}
    assert forget_row(logs, "forget_Q_A_ROUGE", 1) == {
        "rouge1_recall": 0.75,
        "rougeL_f1": 0.75,
        "rougeL_recall": 0.75,
        "input": "Question 1?",
        "ground_truth": "It is in Oslo",
        "generation": "It is in Rome",
    }
    # The lowest 40 % of two tokens, at least one: the first. Row 0 of the holdout has three bits there.
    assert logs["mia_min_k"]["forget"]["value_by_index"]["0"]["score"] == pytest.approx(2 * BIT)
    assert logs["mia_min_k"]["holdout"]["value_by_index"]["0"]["score"] == pytest.approx(3 * BIT)
    assert logs["mia_min_k"]["auc"] == 1.0
    assert logs["forget_quality"] == {"agg_value": None}
    assert logs["privleak"]["agg_value"] == pytest.approx(-100)  # (0 - 0.5) / 0.5
    assert [text.split(":")[0] for text in left_out] == [
        "mia_min_k_plus_plus",
        "mia_reference",
        "forget_quality is null, and privleak against an AUC of 0.5",
    ]


def test_nothing_extractable_is_1_over_length_there_and_0_here():
    rows = records()
    for row in rows:
        row |= {"argmax_correct": [1, 1, 0, 0, 0], "token_nll": [BIT] * 5}  # four tokens and the end token
    logs, _ = export(rows, MANIFEST)
    assert logs["extraction_strength"]["agg_value"] == pytest.approx(1 / 4)
    assert extraction_strength(rows[0]["argmax_correct"]) == 0


def test_an_answer_of_the_end_token_alone_has_no_memorization():
    rows = records()
    rows[0] |= {"argmax_correct": [1], "token_nll": [BIT]}
    logs, _ = export(rows, MANIFEST)
    assert forget_row(logs, "exact_memorization") == {"score": None}
    assert forget_row(logs, "extraction_strength") == {"score": 0}
    assert logs["exact_memorization"]["agg_value"] == 0.5  # of the other three
    assert logs["extraction_strength"]["agg_value"] == pytest.approx(3 * 0.5 / 4)
    assert forget_row({"x": logs["mia_min_k"]["forget"]}, "x") == {"score": 0.0}


def test_epsilon_decides_where_the_right_answer_is_all_but_impossible():
    rows = records()
    rows[0] |= {"paraphrase_nll": 60.0, "distractor_nll": [120.0, 60.0]}  # per token 30; 60 and 60
    logs, _ = export(rows, MANIFEST)
    assert forget_row(logs, "forget_truth_ratio")["score"] == pytest.approx(exp(-60) / 1e-10, rel=1e-3)


def test_against_retrained(tmp_path):
    rows, base = records(known=1.0), records(known=-0.5)
    for i, row in enumerate(base[:4]):
        row["paraphrase_nll"] += 0.005 * (1 + i)
    logs, left_out = export(rows, MANIFEST, base)
    ratios = [[0.125 / exp(-row["paraphrase_nll"] / 2) for row in each[:4]] for each in (rows, base)]
    assert logs["forget_quality"]["agg_value"] == pytest.approx(ks_2samp(*ratios).pvalue)
    # retrained: the holdout's first token has 1.5 bits against 2, so AUC 0; (1 - 1) - (1 - 0) over (1 - 0)
    assert logs["privleak"]["agg_value"] == pytest.approx(-100)
    # loss minus that of `retrained`: 0 on the forget rows, half a bit each on the holdout's
    assert logs["mia_reference"]["auc"] == 1.0
    assert forget_row({"x": logs["mia_reference"]["holdout"]}, "x")["score"] == pytest.approx(0.5 * BIT)
    assert [text.split(":")[0] for text in left_out] == ["mia_min_k_plus_plus"]
    with pytest.raises(UserError, match="different forget questions"):
        export(rows, MANIFEST, base[1:])


def test_min_k_plus_plus_by_hand():
    rows = records()
    for row in (row for row in rows if row["split"] in ("forget", "holdout")):
        row |= {"token_mean": [-BIT, -BIT, 0.0], "token_std": [0.5 * BIT, 0.0, 1.0]}
    logs, _ = export(rows, MANIFEST)
    # Token 1: (-2 + 1) / 0.5 = -2; token 2: half a bit above its mean over the floor 1e-3, far up.
    assert logs["mia_min_k_plus_plus"]["forget"]["value_by_index"]["0"]["score"] == pytest.approx(2.0)
    assert logs["mia_min_k_plus_plus"]["auc"] == 1.0


def test_export_then_read_gives_our_numbers(tmp_path):
    """What score_run's functions make of the same rows, from the file alone."""
    rows, base = records(), records(known=-0.5)
    for row in base[:4]:
        row["paraphrase_nll"] += 0.4
    paths = [
        write_export(export(each, MANIFEST)[0], tmp_path / str(i)) for i, each in enumerate((rows, base))
    ]
    found = recompute(read_log(paths[0][0]), read_log(paths[1][0]))
    assert found["kind"] == "eval"
    ours = {name: metric["ours"] for name, metric in found["metrics"].items()}

    def mean(split: str, value: Any) -> float:
        return float(np.mean([value(row) for row in rows if row["split"] == split]))

    def ratio(row: dict[str, Any], right: str = "paraphrase") -> float:
        wrong = row["distractor_nll"], row["distractor_tokens"]
        return log_truth_ratio(row[f"{right}_nll"], row[f"{right}_tokens"], *wrong)

    def share(row: dict[str, Any]) -> float:
        wrong = row["distractor_nll"], row["distractor_tokens"]
        return normalised_probability(row["answer_nll"], row["answer_tokens"], *wrong)

    expected = {
        "forget_Q_A_Prob": mean("forget", lambda row: probability(row["answer_nll"], 3)),
        "forget_Q_A_ROUGE": mean("forget", lambda row: rouge_recall(row["generation"], row["answer"])),
        "forget_truth_ratio": mean("forget", lambda row: forget_score(ratio(row))),
        "retain_Truth_Ratio": mean("retain", lambda row: truth_score(ratio(row))),
        "ra_Truth_Ratio": mean("real_authors", lambda row: truth_score(ratio(row, "answer"))),
        "wf_Q_A_Prob_normalised": mean("world_facts", share),
    }
    assert {name: ours[name] for name in expected} == pytest.approx(expected)
    test = forget_quality(*([ratio(row) for row in each[:4]] for each in (rows, base)))
    assert found["metrics"]["forget_quality"]["ours"] == pytest.approx(test.p_value)
    assert found["metrics"]["forget_quality"]["ks_statistic"] == pytest.approx(test.ks_statistic)
    names = [
        f"{prefix}_{name}"
        for prefix, likely in (("retain", "Prob"), ("ra", "Prob_normalised"), ("wf", "Prob_normalised"))
        for name in (f"Q_A_{likely}", "Q_A_ROUGE", "Truth_Ratio")
    ]
    assert ours["model_utility"] == pytest.approx(float(harmonic_mean([ours[name] for name in names])))
    assert ours["mia_min_k"] == 1.0
    assert ours["extraction_strength"] is None
    assert "1/length" in found["metrics"]["extraction_strength"]["note"]
    differ = {name for name, metric in found["metrics"].items() if abs(metric.get("difference", 0)) > 1e-8}
    # No text here is unlikely enough for the epsilon to matter; privleak was exported without `retrained`.
    assert differ == {"privleak"}
    assert found["metrics"]["model_utility"]["n"] == 12

    summary = json.loads(paths[0][1].read_text())
    assert "forget_quality" not in summary, "without `retrained` it has no value"
    assert summary["model_utility"] == found["metrics"]["model_utility"]["theirs"]
    read = recompute(read_log(paths[0][1]))
    assert read["kind"] == "summary"
    assert read["metrics"]["model_utility"] == {"theirs": summary["model_utility"], "ours": None, "n": None}


def test_a_log_without_losses_is_read_from_its_stored_ratios(tmp_path):
    scores = {"0": {"score": 0.25}, "1": {"score": 2.0}, "2": {"score": 0.0}}
    log = {"forget_truth_ratio": {"agg_value": 0.25, "value_by_index": scores}}
    log["retain_Truth_Ratio"] = copy.deepcopy(log["forget_truth_ratio"])
    other = copy.deepcopy(log)
    log["forget_quality"] = {"agg_value": None}
    other["forget_truth_ratio"]["value_by_index"] = {str(i): {"score": 3.0 + i} for i in range(3)}
    paths = [save(tmp_path / name, each) for name, each in (("a.json", log), ("b.json", other))]
    metrics = recompute(*map(read_log, paths))["metrics"]
    assert metrics["forget_truth_ratio"]["ours"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert metrics["retain_Truth_Ratio"]["ours"] == pytest.approx((0.75 + 0 + 1) / 3)
    assert metrics["forget_quality"]["ks_statistic"] == 1.0
    assert metrics["forget_quality"]["ours"] == pytest.approx(0.1)  # 2 / C(6, 3)
    assert recompute(read_log(paths[0]))["metrics"]["forget_quality"]["note"].startswith("give --retrained")


def test_auc_by_hand():
    assert auc_of_losses([1.0, 2.0], [3.0, 4.0]) == 1.0
    assert auc_of_losses([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert auc_of_losses([1.0, 2.0, 3.0], [2.0]) == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_task_without_holdout_or_wrong_answers():
    rows = [row for row in records() if row["split"] in ("forget", "retain")]
    manifest = MANIFEST | {"utility": ["retain"], "multiple_choice": [], "membership": None}
    logs, left_out = export(rows, manifest)
    assert "mia_loss" not in logs and any("no holdout set" in text for text in left_out)
    assert logs["model_utility"]["agg_value"] == pytest.approx(
        3 / sum(1 / logs[f"retain_{name}"]["agg_value"] for name in ("Q_A_Prob", "Q_A_ROUGE", "Truth_Ratio"))
    )
    for row in rows:
        row |= {"distractor_nll": [], "distractor_tokens": []}
    logs, left_out = export(rows, manifest)
    assert not {"forget_truth_ratio", "forget_quality", "model_utility"} & set(logs)
    assert any("no truth ratio" in text for text in left_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows[0].pop("answer_nll"),
            "record 'forget-0' of split 'forget' has no field `answer_nll`",
        ),
        (
            lambda rows: rows[0].update(answer_nll=float("nan")),
            "'forget-0' .* answer_nll: nan is not a finite",
        ),
        (lambda rows: rows[0].update(answer_tokens=0), "tokens: expected a number from 1"),
        (
            lambda rows: rows[0].update(generation=None),
            "'forget-0' .* generation: expected a text, found None",
        ),
        (
            lambda rows: rows[0]["distractor_nll"].pop(),
            "expected lists of one length, found .*distractor_nll",
        ),
        (lambda rows: rows[0].update(token_nll=3), "token_nll: expected a list of numbers, found int"),
        (lambda rows: rows[0].pop("split"), "record 1 has no field `split`"),
        (lambda rows: rows.clear(), "no row of split 'forget', only nothing"),
        (lambda rows: rows.__delitem__(slice(4, 8)), "no row of split 'retain', which counts towards"),
    ],
)
def test_records_that_cannot_be_exported(change, message):
    rows = records()
    change(rows)
    with pytest.raises(UserError, match=message):
        export(rows, MANIFEST)


@pytest.mark.parametrize(
    "change", [{"utility": None}, {"multiple_choice": [1]}, {"membership": {"members": "forget"}}]
)
def test_a_manifest_that_is_none(change):
    with pytest.raises(UserError, match="--manifest: expected the manifest"):
        export(records(), MANIFEST | change)


def entry(**row: Any) -> dict[str, Any]:
    return {"forget_Q_A_Prob": {"agg_value": 0.5, "value_by_index": {"7": row}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no", "not valid JSON"),
        ({}, "found an object with nothing"),
        ({"a": "text"}, "found an object with a"),
        ({"a": 1.0, "b": {"agg_value": 1.0}}, "found an object with a, b"),
        ({"a": float("inf")}, "a: inf is not a finite number"),
        ({"forget_Q_A_Prob": {"agg_value": 1.0}}, "has no `value_by_index`"),
        (entry(avg_loss=float("inf")), "forget_Q_A_Prob, row 7, avg_loss: inf is not"),
        (entry(avg_loss=float("nan")), "no row has a value"),
        (entry(prob=1.0), "row 7, avg_loss: expected a number, found NoneType"),
        (entry(avg_loss=None), "no row has a value"),
    ],
)
def test_a_wrong_log_is_one_clear_message(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        recompute(read_log(save(tmp_path / "TOFU_EVAL.json", content)))


def test_rows_that_do_not_fit_together(tmp_path):
    logs, _ = export(records(), MANIFEST)
    del logs["ra_Q_A_PERT_Prob"]["value_by_index"]["3"]
    path = save(Path(tmp_path) / "TOFU_EVAL.json", logs)
    with pytest.raises(UserError, match="ra_Q_A_Prob has 4 rows and ra_Q_A_PERT_Prob 3; row '3' is in one"):
        recompute(read_log(path))


@pytest.mark.parametrize(
    "missing", [None, {"prob": None, "avg_loss": None}, {"prob": 0.5, "avg_loss": float("nan")}]
)
def test_a_null_row_drops_the_pair_as_theirs_does(tmp_path, missing):
    """Theirs leaves an index out where the right or the wrong answers are None; means are over the others."""
    logs, _ = export(records(), MANIFEST)
    whole = recompute(read_log(save(tmp_path / "whole.json", logs)))["metrics"]
    for name, index in (("forget_Q_A_PARA_Prob", "0"), ("forget_Q_A_PERT_Prob", "1"), ("ra_Q_A_Prob", "2")):
        logs[name]["value_by_index"][index] = missing
    logs["mia_loss"]["forget"]["value_by_index"]["3"] = {"score": None}
    logs["forget_Q_A_Prob"]["agg_value"] = float("nan")  # their mean over a row of NaN
    partly = recompute(read_log(save(tmp_path / "partly.json", logs)))["metrics"]
    rows = [row for row in records() if row["split"] == "forget"]
    kept = [
        forget_score(
            log_truth_ratio(
                row["paraphrase_nll"],
                row["paraphrase_tokens"],
                row["distractor_nll"],
                row["distractor_tokens"],
            )
        )
        for row in rows[2:]
    ]
    ratio = partly["forget_truth_ratio"]
    assert ratio["ours"] == pytest.approx(sum(kept) / len(kept))
    assert (ratio["n"], ratio["dropped"]) == (len(rows) - 2, 2)
    assert (partly["ra_Q_A_Prob"]["n"], partly["ra_Q_A_Prob"]["dropped"]) == (
        whole["ra_Q_A_Prob"]["n"] - 1,
        1,
    )
    assert partly["mia_loss"]["dropped"] == 1 and partly["mia_loss"]["n"] == len(rows) - 1
    assert partly["forget_Q_A_Prob"]["theirs"] is None
    assert not any("dropped" in metric for metric in whole.values())


def test_an_answer_that_their_rouge_has_no_words_for_is_left_out(tmp_path):
    """Theirs would give 0 to the right answer; an accent is split as theirs splits it."""
    rows = records()
    for row in rows:
        if row["split"] == "forget":
            row |= {"answer": "Она родилась в Туле", "generation": "Она родилась в Туле"}
    logs, left_out = export(rows, MANIFEST)
    assert "forget_Q_A_ROUGE" not in logs
    assert any(text.startswith("forget_Q_A_ROUGE: it has no words") for text in left_out)
    for row in rows:
        if row["split"] == "forget":
            row |= {"answer": "Née à Sète", "generation": "ne"}
    logs, _ = export(rows, MANIFEST)
    theirs = RougeScorer(["rougeL"], use_stemmer=True).score("Née à Sète", "ne")["rougeL"].recall
    assert logs["forget_Q_A_ROUGE"]["agg_value"] == theirs
