"""OpenUnlearning's logs, read and recomputed in this project's definitions (differences: __init__.py).

A row that is null, or holds null or NaN, was not measured there (no token to judge, a loss that overflowed).
Its code leaves such rows out of every mean, and a pair of right and wrong answers where either is one; so do
we, and `dropped` says how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.membership.privleak import privleak
from pipeline_lib.metrics.model_utility import harmonic_mean
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.rouge import rouge_recall, tokenizers_of
from pipeline_lib.metrics.truth_ratio import forget_score, log_truth_ratio, truth_score
from pipeline_lib.peers import checks
from pipeline_lib.peers.open_unlearning.membership import auc_of_losses

EXPECTED = "a TOFU_EVAL.json or TOFU_SUMMARY.json of OpenUnlearning"
Log = dict[str, Any]
Result = dict[str, Any]

_NOTES = {
    "extraction_strength": "theirs is 1/length, not 0, where nothing is extractable; the log has no lengths",
    "exact_memorization": "theirs leaves the end token out",
    "forget_quality": "give --retrained, the TOFU_EVAL.json of the retrained model",
    "privleak": "give --retrained; without it theirs takes 0.5 for the AUC of the retrained model",
}


def read_log(path: Path | str) -> Log:
    """A log of either kind, as it is in the file: metric -> entry or number."""
    log = checks.read_object(path, EXPECTED)
    entries = [value for value in log.values() if isinstance(value, dict) and "agg_value" in value]
    if (
        not log
        or len(entries) not in (0, len(log))
        or (not entries and not all(map(_is_number, log.values())))
    ):
        raise UserError(
            f"{path}: expected {EXPECTED}, found an object with {', '.join(list(log)[:5]) or 'nothing'}"
        )
    return {name: _named(entry, f"{path}, {name}") for name, entry in log.items()}


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _named(entry: Any, where: str) -> Any:
    """The entry, with its place in words for errors; its number is checked."""
    value = entry["agg_value"] if isinstance(entry, dict) else entry
    if checks.is_missing(value):  # NaN: their mean over a row of NaN
        value = None
    else:
        checks.number(value, f"{where}, agg_value" if isinstance(entry, dict) else where)
    return {**entry, "agg_value": value, "where": where} if isinstance(entry, dict) else value


def recompute(log: Log, retrained: Log | None = None) -> Result:
    """Each metric as `theirs` and `ours`, with n and, where they cannot be the same thing, a `note`.

    `ours` is None where the log does not hold what is needed. `retrained`: log of the model that never saw
    the forget set, for forget quality and PrivLeak.
    """
    if not any(isinstance(entry, dict) for entry in log.values()):
        metrics = {name: {"theirs": value, "ours": None, "n": None} for name, value in log.items()}
        return {"kind": "summary", "note": "a summary has no values of single examples", "metrics": metrics}
    metrics = {}
    for name, entry in log.items():
        found = _ours(name, log, retrained)
        result = {"theirs": entry["agg_value"], **(found or {"ours": None, "n": None})}
        if None not in (result["theirs"], result["ours"]):
            result["difference"] = result["ours"] - result["theirs"]
        if name in _NOTES and (result["ours"] is None or name == "exact_memorization"):
            result["note"] = _NOTES[name]
        metrics[name] = result
    return {"kind": "eval", "metrics": metrics}


def _ours(name: str, log: Log, retrained: Log | None) -> Result | None:
    """`ours` and `n` of one metric; None where the log does not hold what is needed."""
    if name in _AGAINST_RETRAINED:
        return None if retrained is None else _AGAINST_RETRAINED[name](log, retrained)
    if name == "model_utility":
        return _model_utility(log)
    if name.endswith("_ROUGE"):
        return _rouge(log[name])
    for ending, value in _OF_ONE_ROW.items():
        if name.endswith(ending):
            return _mean(log[name], value)
    return _auc_of(log[name]) if name.startswith("mia_") else _of_both(name, log)


def _rows(entry: Mapping[str, Any]) -> dict[str, Any]:
    """value_by_index of an entry, with the rows that were not measured."""
    where = entry["where"]
    values = entry.get("value_by_index")
    if not isinstance(values, dict) or not values:
        raise UserError(f"{where}: has no `value_by_index`, or an empty one: the metric was not evaluated")
    for key, row in values.items():
        if row is not None and not isinstance(row, dict):
            raise UserError(f"{where}, row {key}: expected an object of values, found {row!r}")
    return values


def _measured(*entries: Mapping[str, Any]) -> tuple[list[tuple[str, list[dict[str, Any]]]], int]:
    """(index, its row in each entry) where all of them have a value, and how many were dropped."""
    found = [_rows(entry) for entry in entries]
    kept = [
        (key, [rows[key] for rows in found])
        for key in found[0]
        if not any(checks.is_missing(rows[key]) or not rows[key] for rows in found)
    ]
    if not kept:
        raise UserError(f"{entries[0]['where']}: no row has a value")
    return kept, len(found[0]) - len(kept)


def _counted(result: Result, *dropped: int) -> Result:
    """The result, with the number of rows that were left out, where there is any."""
    return {**result, "dropped": sum(dropped)} if any(dropped) else result


def _values(
    entry: Mapping[str, Any], value: Callable[[dict[str, Any], str], float]
) -> tuple[list[float], int]:
    """The value of each row that was measured, and how many were not."""
    rows, dropped = _measured(entry)
    return [value(row, f"{entry['where']}, row {key}") for key, (row,) in rows], dropped


def _mean(entry: Mapping[str, Any], value: Callable[[dict[str, Any], str], float]) -> Result:
    found, dropped = _values(entry, value)
    return _counted({"ours": fmean(found), "n": len(found)}, dropped)


def _loss_list(row: Mapping[str, Any], where: str) -> list[float]:
    """avg_loss of one text, or of several wrong answers."""
    value, where = row.get("avg_loss"), f"{where}, avg_loss"
    return checks.losses(value, where) if isinstance(value, list) else [checks.loss(value, where)]


def _probability(row: Mapping[str, Any], where: str) -> float:
    """Of one text, or the mean of several wrong answers."""
    return fmean(probability(x, 1) for x in _loss_list(row, where))


def _rouge(entry: Mapping[str, Any]) -> Result:
    """From the texts where the log has them, in words that follow the true answers' scripts."""
    rows, dropped = _measured(entry)
    values = []
    truths = [row.get("ground_truth") for _, (row,) in rows]
    chosen = tokenizers_of([text if isinstance(text, str) else "" for text in truths])
    for (key, (row,)), truth, words in zip(rows, truths, chosen, strict=True):
        if isinstance(row.get("generation"), str) and isinstance(truth, str):
            values.append(rouge_recall(row["generation"], truth, words=words))
        else:
            where = f"{entry['where']}, row {key}, rougeL_recall"
            values.append(checks.number(row.get("rougeL_recall"), where, 0, 1))
    return _counted({"ours": fmean(values), "n": len(values)}, dropped)


def _score(row: Mapping[str, Any], where: str) -> float:
    return checks.number(row.get("score"), f"{where}, score")


_OF_ONE_ROW = {"_Prob": _probability, "exact_memorization": _score}


def _right(log: Log, prefix: str) -> str:
    """The entry of the true answers in a truth ratio: paraphrased, but not where they are options."""
    options = f"{prefix}_Q_A_Prob_normalised" in log
    return f"{prefix}_Q_A_Prob" if options else f"{prefix}_Q_A_PARA_Prob"


def _pairs(log: Log, right: str, prefix: str) -> tuple[list[tuple[float, list[float]]], int] | None:
    """(loss of the true answer, losses of the wrong ones) of each row, and how many pairs were dropped.

    None if the log has not both.
    """
    wrong = f"{prefix}_Q_A_PERT_Prob"
    if right not in log or wrong not in log:
        return None
    checks.same_keys({right: _rows(log[right]), wrong: _rows(log[wrong])}, log[right]["where"])
    rows, dropped = _measured(log[right], log[wrong])
    return [
        (_loss_list(first, f"{right}, row {key}")[0], _loss_list(second, f"{wrong}, row {key}"))
        for key, (first, second) in rows
    ], dropped


def _share(right: float, wrong: list[float]) -> float:
    return normalised_probability(right, 1, wrong, [1] * len(wrong))


def _log_ratio(right: float, wrong: list[float]) -> float:
    return log_truth_ratio(right, 1, wrong, [1] * len(wrong))


def _of_both(name: str, log: Log) -> Result | None:
    """What is made of the true and the wrong answers together; a truth ratio also from the stored ratio."""
    if name.endswith("_Prob_normalised"):
        prefix = name.removesuffix("_Q_A_Prob_normalised")
        pairs = _pairs(log, f"{prefix}_Q_A_Prob", prefix)
        return _mean_of_pairs(pairs, _share) if pairs else None
    if not name.lower().endswith("_truth_ratio"):
        return None
    prefix = name[: -len("_truth_ratio")]
    aggregate = forget_score if prefix == "forget" else truth_score
    if pairs := _pairs(log, _right(log, prefix), prefix):
        return _mean_of_pairs(pairs, lambda *pair: aggregate(_log_ratio(*pair)))
    return _mean(log[name], lambda row, where: aggregate(_log_of_stored(row, where)))


def _mean_of_pairs(
    found: tuple[list[tuple[float, list[float]]], int], value: Callable[[float, list[float]], float]
) -> Result:
    pairs, dropped = found
    return _counted({"ours": fmean(value(*pair) for pair in pairs), "n": len(pairs)}, dropped)


def _log_of_stored(row: Mapping[str, Any], where: str) -> float:
    """log R from the stored ratio, wrong over right."""
    ratio = checks.number(row.get("score"), f"{where}, score", 0)
    return -math.log(ratio) if ratio > 0 else math.inf


def _model_utility(entries: Log) -> Result | None:
    ends = "_Truth_Ratio"  # of the forget set it is written small
    names = []
    for prefix in (name.removesuffix(ends) for name in entries if name.endswith(ends)):
        options = f"{prefix}_Q_A_Prob_normalised"
        likely = options if options in entries else f"{prefix}_Q_A_Prob"
        names += [likely, f"{prefix}_Q_A_ROUGE", f"{prefix}{ends}"]
    parts = [part for name in names if name in entries and (part := _ours(name, entries, None))]
    if not parts or len(parts) < len(names):
        return None
    result = {
        "ours": float(harmonic_mean([part["ours"] for part in parts])),
        "n": sum(part["n"] for part in parts) // 3,
    }
    return _counted(result, *(part.get("dropped", 0) for part in parts))


def _forget_quality(log: Log, retrained: Log) -> Result:
    """From the losses where both logs have them, else from the stored ratios.

    Those are wrong over right and may be 0, so not their logarithm: any falling form of R gives the same
    test.
    """
    right = _right(log, "forget")
    pairs = _pairs(log, right, "forget"), _pairs(retrained, right, "forget")
    if pairs[0] and pairs[1]:
        found = [([_log_ratio(*pair) for pair in both], lost) for both, lost in (pairs[0], pairs[1])]
    else:
        found = [_stored_ratios(log), _stored_ratios(retrained)]
    test = forget_quality(*(ratios for ratios, _ in found))
    result = {
        "ours": test.p_value,
        "n": test.n_unlearned,
        "n_retrained": test.n_retrained,
        "log10": test.log10_p_value,
        "ks_statistic": test.ks_statistic,
    }
    return _counted(result, *(lost for _, lost in found))


def _stored_ratios(log: Log) -> tuple[list[float], int]:
    """The ratios of each row, and how many rows have none."""
    if not isinstance(entry := log.get("forget_truth_ratio"), dict):
        raise UserError(
            "forget quality needs the `forget_truth_ratio` of single examples, which one of the logs lacks: "
            "give the TOFU_EVAL.json of both models, not a summary"
        )
    return _values(entry, _score)


def _auc_of(entry: Mapping[str, Any]) -> Result | None:
    if not all(isinstance(entry.get(name), dict) for name in ("forget", "holdout")):
        return None
    (forget, lost), (holdout, lost_too) = (
        _values({**entry[name], "where": f"{entry['where']}, {name}"}, _score)
        for name in ("forget", "holdout")
    )
    result = {"ours": auc_of_losses(forget, holdout), "n": len(forget), "n_holdout": len(holdout)}
    return _counted(result, lost, lost_too)


def _privleak(log: Log, retrained: Log) -> Result | None:
    entries = log.get("mia_min_k"), retrained.get("mia_min_k")
    found = [_auc_of(entry) for entry in entries if isinstance(entry, dict)]
    if len(found) < 2 or found[0] is None or found[1] is None:
        return None
    n = found[0]["n"]
    value = privleak(found[0]["ours"], found[1]["ours"], n * found[0]["n_holdout"])
    return _counted({"ours": float(value), "n": n}, *(auc.get("dropped", 0) for auc in found if auc))


_AGAINST_RETRAINED = {"forget_quality": _forget_quality, "privleak": _privleak}
