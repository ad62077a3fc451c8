"""Any run's records.jsonl as OpenUnlearning's TOFU_EVAL.json and TOFU_SUMMARY.json, in its definitions.

Source: OpenUnlearning (arXiv 2506.12618), the files and formulas of its TOFU evaluation. Names, keys and
aggregates are its own, so that its `retain_logs_path` takes such a file and results can be laid side by side;
where its definitions differ from ours is said in __init__.py.
What cannot be the same, because the records are ours: the index of a row is its place among the split's
records; `input` is the question without the chat template; the holdout of membership inference is that of
our task; a task with other utility splits than TOFU's has parts of their names, and `model_utility` is over
those.
Not written, because the quantities differ: mia_gradnorm (theirs is the mean of the norms of single parameter
tensors, ours the norm over all), the gibberish score (theirs is a classifier's).
"""

from __future__ import annotations

from math import exp
from pathlib import Path
from statistics import fmean

import numpy as np

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_json
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.model_utility import harmonic_mean
from pipeline_lib.metrics.rouge import rouge_recall, rouge_recall_and_f1
from pipeline_lib.metrics.words import is_latin
from pipeline_lib.peers.open_unlearning.membership import membership_entries
from pipeline_lib.peers.open_unlearning.rows import (
    Entry,
    Row,
    by_split,
    entry,
    field,
    mean_loss,
    wrong_losses,
)

PREFIXES = {"retain_eval": "retain", "real_authors": "ra", "world_facts": "wf"}
EPSILON = 1e-10  # theirs, added to denominators
NO_REFERENCE_AUC = 0.5  # what it takes for the retrained model's where there is none
SUMMARY = (  # the metrics that its TOFU evaluation may be asked for; the others are parts of these
    "exact_memorization",
    "extraction_strength",
    "forget_Q_A_Prob",
    "forget_Q_A_ROUGE",
    "forget_quality",
    "forget_truth_ratio",
    "mia_loss",
    "mia_min_k",
    "mia_min_k_plus_plus",
    "mia_reference",
    "mia_zlib",
    "model_utility",
    "privleak",
)


def export(
    rows: list[Row], manifest: Row, retrained_rows: list[Row] | None = None
) -> tuple[dict[str, Entry], list[str]]:
    """(TOFU_EVAL.json, what was left out and why).

    `rows`: records.jsonl of the run; `manifest`: its task's; `retrained_rows`: records.jsonl of `retrained`,
    without which forget quality is null and PrivLeak is against an AUC of 0.5, as in OpenUnlearning.
    """
    splits = by_split(rows)
    if FORGET_SPLIT not in splits:
        raise UserError(
            f"the records hold no row of split {FORGET_SPLIT!r}, only {', '.join(splits) or 'nothing'}. A "
            "run that diverged has none; otherwise evaluate it again."
        )
    left_out: list[str] = []
    retrained = None if retrained_rows is None else by_split(retrained_rows)
    utility, choice, membership = _from_manifest(manifest)
    logs = _question_entries("forget", splits[FORGET_SPLIT], FORGET_SPLIT in choice, left_out)
    parts = []
    for split in utility:
        if split not in splits:
            raise UserError(f"the records hold no row of split {split!r}, which counts towards Model Utility")
        prefix = PREFIXES.get(split, split)
        found = _question_entries(prefix, splits[split], split in choice, left_out)
        likely = f"{prefix}_Q_A_Prob_normalised" if split in choice else f"{prefix}_Q_A_Prob"
        parts += [found.get(name) for name in (likely, f"{prefix}_Q_A_ROUGE", f"{prefix}_Truth_Ratio")]
        logs |= found
    if parts and None not in parts:
        values = [part["agg_value"] for part in parts if part is not None]
        logs["model_utility"] = {"agg_value": float(harmonic_mean(values))}
    else:
        left_out.append("model_utility: needs answers and truth ratios of every utility split")
    logs |= _memorization(splits[FORGET_SPLIT])
    logs |= membership_entries(splits, membership, retrained, left_out)
    reference = {} if retrained is None else _reference(splits, retrained, choice, membership)
    logs |= _against_retrained(logs, reference, left_out)
    return dict(sorted(logs.items())), left_out


def _from_manifest(manifest: Row) -> tuple[list[str], list[str], dict[str, str] | None]:
    """(utility splits, splits of questions with options, splits of membership inference)."""
    lists = [manifest.get(name) for name in ("utility", "multiple_choice")]
    membership = manifest.get("membership")
    names = [*(name for each in lists for name in (each if isinstance(each, list) else [None]))]
    if membership is not None:
        roles = ("members", "nonmembers")
        names += [membership.get(role) if isinstance(membership, dict) else None for role in roles]
    if not all(isinstance(name, str) for name in names):
        raise UserError(
            "--manifest: expected the manifest.json of the run's task, with the lists `utility` and "
            "`multiple_choice` of split names, and `membership`"
        )
    return manifest["utility"], manifest["multiple_choice"], membership


def write_export(logs: dict[str, Entry], folder: Path | str) -> list[Path]:
    """Write both files; returns their paths."""
    summary = {
        name: logs[name]["agg_value"]
        for name in SUMMARY
        if name in logs and logs[name]["agg_value"] is not None
    }
    files = {
        Path(folder) / f"TOFU_{kind}.json": what for kind, what in (("EVAL", logs), ("SUMMARY", summary))
    }
    for path, content in files.items():
        write_json(path, content)
    return list(files)


def _question_entries(prefix: str, rows: list[Row], choice: bool, left_out: list[str]) -> dict[str, Entry]:
    """What is asked of the questions of one split."""
    logs = {f"{prefix}_Q_A_Prob": entry(rows, lambda row: _likely(mean_loss(row, "answer")), "prob")}
    if not all("generation" in row for row in rows):
        left_out.append(f"{prefix}_Q_A_ROUGE: the split was not answered")
    elif not all(_has_its_words(field(row, "answer")) for row in rows):
        left_out.append(f"{prefix}_Q_A_ROUGE: it has no words for an answer that is not in Latin letters")
    else:
        logs[f"{prefix}_Q_A_ROUGE"] = entry(rows, _rouge, "rougeL_recall")
    if not all(field(row, "distractor_nll") for row in rows):
        left_out.append(f"{prefix}: a record without wrong answers has no truth ratio")
        return logs
    logs[f"{prefix}_Q_A_PERT_Prob"] = entry(rows, _likely_wrong, "prob")
    right = "answer" if choice else "paraphrase"
    if choice:
        logs[f"{prefix}_Q_A_Prob_normalised"] = entry(rows, _share, "prob")
    else:
        logs[f"{prefix}_Q_A_PARA_Prob"] = entry(rows, lambda row: _likely(mean_loss(row, right)), "prob")
    ratios = entry(rows, lambda row: {"score": _ratio(mean_loss(row, right), wrong_losses(row))}, "score")
    scores = np.array(_scores(ratios))
    if prefix == "forget":
        name, scores = "forget_truth_ratio", np.minimum(scores, 1 / (scores + EPSILON))
    else:
        name, scores = f"{prefix}_Truth_Ratio", np.maximum(0, 1 - scores)
    return {**logs, name: {**ratios, "agg_value": float(np.mean(scores))}}


def _likely(loss: float) -> Entry:
    return {"prob": exp(-loss), "avg_loss": loss}


def _likely_wrong(row: Row) -> Entry:
    losses = wrong_losses(row)
    return {"prob": [exp(-loss) for loss in losses], "avg_loss": losses}


def _share(row: Row) -> Entry:
    right = exp(-mean_loss(row, "answer"))
    return {"prob": right / (right + sum(exp(-loss) for loss in wrong_losses(row)) + EPSILON)}


def _ratio(right: float, wrong: list[float]) -> float:
    return exp(-fmean(wrong)) / (exp(-right) + EPSILON)


def _has_its_words(answer: str) -> bool:
    """Can rouge-score's own words, a-z and 0-9, tell a right answer from a wrong one?"""
    return is_latin(answer) and rouge_recall(answer, answer, words="rouge-score") > 0


def _rouge(row: Row) -> Entry:
    generation, answer = row["generation"].strip(), field(row, "answer").strip()
    recall, f1 = rouge_recall_and_f1(generation, answer, words="rouge-score")
    return {
        "rouge1_recall": rouge_recall(generation, answer, "rouge1", "rouge-score"),
        "rougeL_f1": f1,
        "rougeL_recall": recall,
        "input": field(row, "prompt"),
        "ground_truth": answer,
        "generation": generation,
    }


def _memorization(rows: list[Row]) -> dict[str, Entry]:
    """Over the answer's tokens without the end token; its loop stops one step before "nothing"."""

    def exact(row: Row) -> Entry:
        correct = field(row, "argmax_correct")[:-1]
        return {"score": sum(correct) / len(correct) if correct else None}

    def extraction(row: Row) -> Entry:
        correct = field(row, "argmax_correct")[:-1]
        start = next((k for k in range(len(correct)) if all(correct[k:])), len(correct) - 1)
        return {"score": 1 - start / len(correct) if correct else 0}

    return {
        "exact_memorization": entry(rows, exact, "score"),
        "extraction_strength": entry(rows, extraction, "score"),
    }


def _reference(
    splits: dict[str, list[Row]],
    retrained: dict[str, list[Row]],
    choice: list[str],
    membership: dict[str, str] | None,
) -> dict[str, Entry]:
    """What forget quality and PrivLeak take from `retrained`."""
    ids, other_ids = ({row["id"] for row in of.get(FORGET_SPLIT, ())} for of in (splits, retrained))
    if ids != other_ids:
        raise UserError(
            f"the run and `retrained` were evaluated on different forget questions ({len(ids)} and "
            f"{len(other_ids)}); give the records of one study and seed"
        )
    found = _question_entries("forget", retrained[FORGET_SPLIT], FORGET_SPLIT in choice, [])
    return found | membership_entries(retrained, membership, None, [])


def _against_retrained(
    logs: dict[str, Entry], reference: dict[str, Entry], left_out: list[str]
) -> dict[str, Entry]:
    """Forget quality and PrivLeak; `reference` is empty where no `retrained` was given."""
    if not reference:
        left_out.append(
            "forget_quality is null, and privleak against an AUC of 0.5: no --retrained was given"
        )
    found: dict[str, Entry] = {}
    if "forget_truth_ratio" in logs:
        both = [
            _scores(each["forget_truth_ratio"]) for each in (logs, reference) if "forget_truth_ratio" in each
        ]
        found["forget_quality"] = {"agg_value": forget_quality(*both).p_value if len(both) == 2 else None}
    if "mia_min_k" in logs:
        if reference and "mia_min_k" not in reference:
            left_out.append("privleak is against an AUC of 0.5: `retrained` was not asked the holdout set")
        base = 1 - (reference["mia_min_k"]["agg_value"] if "mia_min_k" in reference else NO_REFERENCE_AUC)
        own = 1 - logs["mia_min_k"]["agg_value"]
        found["privleak"] = {"agg_value": (own - base) / (base + EPSILON) * 100}
    return found


def _scores(entry: Entry) -> list[float]:
    return [values["score"] for values in entry["value_by_index"].values()]
