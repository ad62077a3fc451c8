"""TOFU's logs: numbers by hand, and every way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from pipeline_lib.core.errors import UserError
from pipeline_lib.peers.tofu_log import compare, read_tofu_log, summary
from tests.peers.made_up import save, tofu_log

FORGET, RETAIN = "eval_log_forget.json", "eval_log.json"


def read(tmp_path: Path, content: Any) -> Any:
    return read_tofu_log(save(tmp_path / "log.json", content))


def test_the_nine_parts_by_hand(tmp_path):
    parts = summary(read(tmp_path, tofu_log()))
    # R = (1/2) / sqrt(1/4 * 1/16) = 4, so 1 - 1/R = 3/4; in row 1 of each part wrong 1 has 0.001 nats more
    truth = 1 - (0.25 + 0.25 * np.exp(-0.0005)) / 2
    share = (0.5 / 0.8125 + 0.5 / (0.5 + 0.25 * np.exp(-0.001) + 0.0625)) / 2
    assert parts.pop("model_utility") == pytest.approx(9 / sum(1 / x for x in parts.values()))
    assert parts == pytest.approx(
        {
            "Retain ROUGE": 0.5,
            "Retain Probability": 0.5,
            "Retain Truth Ratio": truth,
            "Real Authors ROUGE": 0.5,
            "Real Authors Probability": share,
            "Real Authors Truth Ratio": truth,
            "Real World ROUGE": 0.5,
            "Real World Probability": share,
            "Real World Truth Ratio": truth,
        }
    )


def test_the_arithmetic_variant_by_hand(tmp_path):
    # R = (1/2) / ((1/4 + 1/16) / 2) = 3.2
    row_1 = (0.25 * np.exp(-0.001) + 0.0625) / 2 / 0.5
    expected = 1 - (1 / 3.2 + row_1) / 2
    log = read(tmp_path, tofu_log())
    assert summary(log, "arithmetic")["Retain Truth Ratio"] == pytest.approx(expected)
    assert summary(log, "arithmetic")["Retain Probability"] == 0.5


def test_the_same_questions(tmp_path):
    unlearned, retrained = read(tmp_path, tofu_log(30, shift=0.01)), read(tmp_path, tofu_log(30))
    result, warnings = compare(unlearned, retrained)
    expected = ks_2samp(*(log["Forget"].log_ratios("geometric") for log in (unlearned, retrained)))
    assert result["forget_quality"] == pytest.approx(expected.pvalue)
    assert result["ks_statistic"] == pytest.approx(expected.statistic)
    assert 10 ** result["forget_quality_log10"] == pytest.approx(expected.pvalue)
    assert result["n"] == {"unlearned": 30, "retrained": 30}
    assert result["questions"] == {"unlearned": 30, "retrained": 30, "matched": 30}
    assert set(result["forget"]["unlearned"]) == {"Forget ROUGE", "Forget Probability", "Forget Truth Ratio"}
    assert warnings == []
    assert compare(unlearned, retrained, matched=True)[0]["forget_quality"] == result["forget_quality"]


def test_different_questions_are_counted_and_said(tmp_path):
    """0..19 against 12..21: ten different rows would be compared with twenty."""
    unlearned, retrained = read(tmp_path, tofu_log(20)), read(tmp_path, tofu_log(10, first=12))
    result, (warning,) = compare(unlearned, retrained)
    assert result["n"] == {"unlearned": 20, "retrained": 10}
    assert result["questions"] == {"unlearned": 20, "retrained": 10, "matched": 8}
    assert "20 in the first, 10 in the second, 8 in both" in warning and "--matched" in warning
    assert result["ks_statistic"] == pytest.approx(0.6)  # 12 of 20 lie below all of the others

    matched, (warning,) = compare(unlearned, retrained, matched=True)
    assert matched["n"] == {"unlearned": 8, "retrained": 8}
    assert (matched["ks_statistic"], matched["forget_quality"]) == (0, 1)  # the same model on the same rows
    assert result["matched_questions"] == {name: matched[name] for name in result["matched_questions"]}
    assert "matched_questions" not in matched
    assert warning.endswith("The test is on those in both.")


def test_no_question_in_common(tmp_path):
    unlearned, retrained = read(tmp_path, tofu_log(5)), read(tmp_path, tofu_log(5, first=5))
    result, (warning,) = compare(unlearned, retrained)
    assert result["matched_questions"] is None
    assert "0 in both" in warning and "does not judge unlearning" in warning
    with pytest.raises(UserError, match="--matched: the logs share no forget question"):
        compare(unlearned, retrained, matched=True)


def test_a_question_that_occurs_twice_is_matched_in_order(tmp_path):
    content = tofu_log(3)
    content[FORGET]["generated_text"]["1"] = content[FORGET]["generated_text"]["0"]
    log = read(tmp_path, content)
    result, _ = compare(log, log, matched=True)
    assert result["questions"] == {"unlearned": 3, "retrained": 3, "matched": 3}
    assert result["ks_statistic"] == 0


def test_equal_n(tmp_path):
    unlearned, retrained = read(tmp_path, tofu_log(60, shift=1)), read(tmp_path, tofu_log(60))
    result, _ = compare(unlearned, retrained, equal_n=20)
    # The samples do not overlap: D = 1 in every subsample, p = 2 / C(40, 20).
    assert result["equal_n"]["forget_quality"] == pytest.approx(2 / 137846528820)
    assert (result["equal_n"]["n"], result["equal_n"]["ks_statistic"]) == (20, 1)
    assert result["n"] == {"unlearned": 60, "retrained": 60}
    for wrong in (0, 61):
        with pytest.raises(UserError, match="--equal-n: expected a number from 1 to 60"):
            compare(unlearned, retrained, equal_n=wrong)


def broken(change: str, value: Any, field: str = "avg_gt_loss", part: str = RETAIN) -> dict[str, Any]:
    content = tofu_log()
    if change == "row":
        content[part][field]["1"] = value
    elif change == "field":
        content[part][field] = value
    else:
        content[part] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON .* Expected a log of TOFU's evaluation"),
        ("[1, 2]", "expected a log of TOFU's evaluation .* found a list of 2"),
        ("{}", "missing: eval_log.json, eval_real_author_wo_options.json, .* .it holds nothing."),
        ({"forget_quality": 1.0}, "missing: .* .it holds 'forget_quality'."),
        (broken("part", []), "part eval_log.json: expected an object with the fields avg_gt_loss"),
        (broken("part", {}, part=FORGET), "eval_log_forget.json: has no field `avg_gt_loss`"),
        (broken("field", {}), "the field `avg_gt_loss` is empty"),
        (broken("field", {"0": 1.0}), "avg_gt_loss has 1 rows and avg_paraphrased_loss 2; row '1' is in one"),
        (broken("row", float("inf")), "avg_gt_loss of row 1: inf is not a finite number"),
        (broken("row", -1.0), "avg_gt_loss of row 1: expected a number from"),
        (broken("row", "1.0"), "avg_gt_loss of row 1: expected a number, found str"),
        (broken("field", {"0": None, "1": float("nan")}), "every row holds null or NaN"),
        (broken("row", 1.5, "rougeL_recall"), "rougeL_recall of row 1: expected a number from 0 to 1"),
        (
            broken("row", [], "average_perturb_loss"),
            "average_perturb_loss of row 1: expected the losses of at",
        ),
        (
            broken("row", [1.0, float("inf")], "average_perturb_loss"),
            "average_perturb_loss of row 1, wrong answer 2: inf is not a finite number",
        ),
        (broken("row", ["a"], "generated_text"), "generated_text of row 1: expected the texts"),
    ],
)
def test_a_wrong_file_is_one_clear_message(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "log.json"))


def test_a_row_without_an_index_and_a_file_that_cannot_be_read(tmp_path):
    content = tofu_log()
    for field in content[RETAIN].values():
        field["x"] = field.pop("1")
    with pytest.raises(UserError, match="expected rows named by their index, found 'x'"):
        read(tmp_path, content)
    with pytest.raises(UserError, match=r"no.json: cannot be read \(No such file"):
        read_tofu_log(tmp_path / "no.json")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory"):
        read_tofu_log(tmp_path)


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize("field", ["avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss"])
def test_a_row_of_null_or_nan_drops_its_pair_and_is_counted(tmp_path, missing, field):
    """Row 0 of the retain part, ROUGE 1, is left out of all three of its numbers; row 1 has ROUGE 0."""
    content = tofu_log(30)
    content[RETAIN][field]["0"] = [0.5, missing] if field == "average_perturb_loss" else missing
    content[FORGET][field]["7"] = missing
    whole, partly = read(tmp_path, tofu_log(30)), read(tmp_path, content)
    assert summary(partly)["Retain ROUGE"] == 0.0
    assert summary(partly)["Retain Truth Ratio"] == pytest.approx(1 - 0.25 * np.exp(-0.0005))
    result, warnings = compare(partly, whole)
    left = [ratio for i, ratio in enumerate(whole["Forget"].log_ratios("geometric")) if i != 7]
    assert partly["Forget"].log_ratios("geometric") == left
    assert result["n"] == {"unlearned": 29, "retrained": 30}
    assert result["ks_statistic"] == pytest.approx(
        ks_2samp(left, whole["Forget"].log_ratios("geometric")).statistic
    )
    assert result["dropped"] == {"unlearned": {"Retain": 1, "Forget": 1}, "retrained": {}}
    assert warnings[-1] == (
        "rows that hold null or NaN are left out: 1 of Retain (unlearned), 1 of Forget (unlearned)"
    )
    assert "dropped" not in compare(whole, whole)[0]
