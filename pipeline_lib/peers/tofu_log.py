"""TOFU's evaluation log, `eval_log_aggregated.json`: Model Utility with its nine parts, and Forget Quality.

Source: TOFU (arXiv 2401.06121), the log that its repository writes and publishes, aggregated as its
`aggregate_eval_stat.py` does. A log has four parts (retain, forget, real authors, world facts); in each a
field maps a row's index to a number. Losses are mean negative log-likelihoods per token, in nats, so every
text counts as one token here. The definitions are those of metrics/; ROUGE-L recall is the log's.
Range and direction of each number: see its file there.
Traps: the logs of two forget sets of different size hold different questions. The repository's code compares
them all the same, and so does `compare`, but it counts how many questions both hold and warns; `matched`
tests on those alone. A row with a null or NaN in any field was not measured: the pair of right and wrong
answers is left out and counted under `dropped`. The field `truth_ratio` of a log is 1 / R. A log may hold
fewer rows than its forget set (the published ones stop at 300), and p depends on that number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.model_utility import harmonic_mean
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.statistics import ks_equal_n
from pipeline_lib.metrics.truth_ratio import Variant, forget_score, log_truth_ratio, truth_score
from pipeline_lib.peers import checks

FORGET = "Forget"
PARTS = {  # as TOFU's tables call them -> as the file does
    "Retain": "eval_log.json",
    "Real Authors": "eval_real_author_wo_options.json",
    "Real World": "eval_real_world_wo_options.json",
    FORGET: "eval_log_forget.json",
}
WITH_OPTIONS = ("Real Authors", "Real World")  # their probability is a share among the options
ROWS_PER_AUTHOR = 20  # TOFU's author sets; the rows of one author were memorised together
EXPECTED = f"a log of TOFU's evaluation with the parts {', '.join(PARTS.values())}"

Question = tuple[str, str, int]  # prompt, true answer, how often the pair stood above this row


@dataclass(frozen=True)
class Part:
    """The rows of one part, in the file's order; every list has one entry a row."""

    questions: list[Question]
    authors: list[int]
    answer: list[float]
    paraphrase: list[float]
    wrong: list[list[float]]
    rouge_l_recall: list[float]
    dropped: int = 0  # rows of the file that hold null or NaN

    def log_ratios(self, variant: Variant) -> list[float]:
        """log R of each row."""
        return [
            log_truth_ratio(paraphrase, 1, wrong, [1] * len(wrong), variant)
            for paraphrase, wrong in zip(self.paraphrase, self.wrong, strict=True)
        ]


TofuLog = dict[str, Part]


def read_tofu_log(path: Path | str) -> TofuLog:
    """The four parts of a log, checked: no field missing, nothing empty, no number that is infinite."""
    content = checks.read_object(path, EXPECTED)
    if missing := [file for file in PARTS.values() if file not in content]:
        found = ", ".join(map(repr, list(content)[:5])) or "nothing"
        raise UserError(f"{path}: expected {EXPECTED}; missing: {', '.join(missing)} (it holds {found})")
    return {name: _part(content[file], f"{path}, part {file}") for name, file in PARTS.items()}


def _part(content: Any, where: str) -> Part:
    names = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "rougeL_recall", "generated_text")
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected an object with the fields {', '.join(names)}")
    for name in names:
        if not isinstance(content.get(name), dict):
            raise UserError(f"{where}: has no field `{name}` that maps rows to values")
        if not content[name]:
            raise UserError(f"{where}: the field `{name}` is empty: the part was not evaluated")
    checks.same_keys({name: content[name] for name in names}, where)
    answer, paraphrase, wrong, rouge, texts = (content[name] for name in names)
    if unnamed := [row for row in answer if not row.isdigit()]:
        raise UserError(f"{where}: expected rows named by their index, found {unnamed[0]!r}")
    rows = [row for row in answer if not any(checks.is_missing(content[name][row]) for name in names)]
    if not rows:
        raise UserError(f"{where}: every row holds null or NaN: the model was not measured")

    def at(field: str, row: str) -> str:
        return f"{where}, {field} of row {row}"

    return Part(
        questions=_questions([_pair(texts[row], at("generated_text", row)) for row in rows]),
        authors=[int(row) // ROWS_PER_AUTHOR for row in rows],
        answer=[checks.loss(answer[row], at("avg_gt_loss", row)) for row in rows],
        paraphrase=[checks.loss(paraphrase[row], at("avg_paraphrased_loss", row)) for row in rows],
        wrong=[checks.losses(wrong[row], at("average_perturb_loss", row)) for row in rows],
        rouge_l_recall=[checks.number(rouge[row], at("rougeL_recall", row), 0, 1) for row in rows],
        dropped=len(answer) - len(rows),
    )


def _pair(texts: Any, where: str) -> tuple[str, str]:
    """A row of generated_text is [prompt, the model's answer, true answer]."""
    if not (isinstance(texts, list) and len(texts) == 3 and all(isinstance(x, str) for x in texts)):
        raise UserError(f"{where}: expected the texts [prompt, generated answer, true answer]")
    return texts[0], texts[2]


def _questions(pairs: list[tuple[str, str]]) -> list[Question]:
    numbers: dict[tuple[str, str], count[int]] = {}
    return [(*pair, next(numbers.setdefault(pair, count()))) for pair in pairs]


def summary(log: TofuLog, variant: Variant = "geometric") -> dict[str, float]:
    """`model_utility` and its nine parts, named as in TOFU's tables."""
    of_splits = [_three_parts(name, log[name], variant) for name in PARTS if name != FORGET]
    parts = {name: value for three in of_splits for name, value in three.items()}
    return {"model_utility": float(harmonic_mean(list(parts.values()))), **parts}


def _three_parts(name: str, part: Part, variant: Variant) -> dict[str, float]:
    if name in WITH_OPTIONS:
        likely = [
            normalised_probability(answer, 1, wrong, [1] * len(wrong))
            for answer, wrong in zip(part.answer, part.wrong, strict=True)
        ]
    else:
        likely = [probability(answer, 1) for answer in part.answer]
    aggregate = forget_score if name == FORGET else truth_score
    return {
        f"{name} ROUGE": _mean(part.rouge_l_recall),
        f"{name} Probability": _mean(likely),
        f"{name} Truth Ratio": _mean([aggregate(ratio) for ratio in part.log_ratios(variant)]),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def compare(
    unlearned: TofuLog,
    retrained: TofuLog,
    variant: Variant = "geometric",
    matched: bool = False,
    equal_n: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """(what `tofu-log` prints, warnings for the person who reads it).

    `matched`: test on the forget questions that both logs hold; without it that test stands under
    `matched_questions` where the questions differ (None: they share none). `equal_n`: also test at that many
    questions (statistics.ks_equal_n), so that logs of forget sets of different size can be compared.
    """
    first, second = unlearned[FORGET], retrained[FORGET]
    place = {question: i for i, question in enumerate(second.questions)}
    pairs = [(i, place[question]) for i, question in enumerate(first.questions) if question in place]
    counts = {"unlearned": len(first.questions), "retrained": len(second.questions), "matched": len(pairs)}
    same = counts["unlearned"] == counts["retrained"] == counts["matched"]
    if matched and not pairs:
        raise UserError(
            f"--matched: the logs share no forget question ({counts['unlearned']} in the first, "
            f"{counts['retrained']} in the second). Evaluate both models on the same forget set."
        )
    ratios = first.log_ratios(variant), second.log_ratios(variant)
    authors = first.authors, second.authors
    on_both = [ratios[0][i] for i, _ in pairs], [ratios[1][j] for _, j in pairs]
    if paired := same or matched:
        ratios, authors = on_both, ([first.authors[i] for i, _ in pairs],) * 2
    result: dict[str, Any] = {
        **_test(*ratios),
        "variant": variant,
        "matched": matched,
        "questions": counts,
        "unlearned": summary(unlearned, variant),
        "retrained": summary(retrained, variant),
        "forget": {
            "unlearned": _three_parts(FORGET, first, variant),
            "retrained": _three_parts(FORGET, second, variant),
        },
    }
    dropped = {
        side: {name: part.dropped for name, part in log.items() if part.dropped}
        for side, log in (("unlearned", unlearned), ("retrained", retrained))
    }
    warnings = [] if same else [_warning(counts, matched)]
    if any(dropped.values()):
        result["dropped"] = dropped
        lost = [f"{n} of {name} ({side})" for side, parts in dropped.items() for name, n in parts.items()]
        warnings.append(f"rows that hold null or NaN are left out: {', '.join(lost)}")
    if not paired:
        result["matched_questions"] = _test(*on_both) if pairs else None
    if equal_n is not None:
        smaller = min(len(ratios[0]), len(ratios[1]))
        if not 1 <= equal_n <= smaller:
            raise UserError(
                f"--equal-n: expected a number from 1 to {smaller}, the questions of the smaller sample, "
                f"found {equal_n}. What a larger forget set would give cannot be had from these rows."
            )
        at_n = ks_equal_n(*ratios, equal_n, authors[0], None if paired else authors[1])
        result["equal_n"] = {
            "n": at_n.n,
            "forget_quality": at_n.p_value,
            "forget_quality_log10": at_n.log10_p_value,
            "ks_statistic": at_n.ks_statistic,
            "rejected": at_n.rejected,
            "subsamples": at_n.subsamples,
        }
    return result, warnings


def _test(unlearned: list[float], retrained: list[float]) -> dict[str, Any]:
    """p, its logarithm, D, and both n."""
    test = forget_quality(unlearned, retrained)
    return {
        "forget_quality": test.p_value,
        "forget_quality_log10": test.log10_p_value,
        "ks_statistic": test.ks_statistic,
        "n": {"unlearned": test.n_unlearned, "retrained": test.n_retrained},
    }


def _warning(counts: dict[str, int], matched: bool) -> str:
    found = (
        f"the logs hold different forget questions: {counts['unlearned']} in the first, "
        f"{counts['retrained']} in the second, {counts['matched']} in both"
    )
    if matched:
        return f"{found}. The test is on those in both."
    if counts["matched"]:
        return f"{found}. The test compares different questions; --matched is the test on those in both."
    return f"{found}. The test compares different questions, so that its p-value does not judge unlearning."
