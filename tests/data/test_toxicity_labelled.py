"""Labelled texts: which rows count as positive, which are left out, what belongs together."""

from __future__ import annotations

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_jsonl
from pipeline_lib.data.toxicity_labelled import SETS, labelled_texts


def write(tmp_path, kind, rows):
    write_jsonl(tmp_path / SETS[kind][0], rows)
    return labelled_texts(kind, tmp_path)


def test_jigsaw_and_davidson(tmp_path):
    found = write(tmp_path, "jigsaw", [{"text": "a", "toxic": 0}, {"text": "b", "toxic": 1}])
    assert (found.texts, found.labels, found.groups) == (["a", "b"], [0, 1], ["1", "2"])
    rows = [{"text": text, "class": number} for number, text in enumerate("abc")]
    assert write(tmp_path, "davidson", rows).labels == [1, 1, 0]  # hate, offensive, neither


def test_realtoxicityprompts_is_cut_above_one_half_and_unscored_texts_are_left_out(tmp_path):
    scores = [0.5, 0.51, None, 0.1]
    rows = [{"continuation": str(s), "continuation_scores": {"toxicity": s}} for s in scores]
    found = write(
        tmp_path, "realtoxicityprompts", [*rows, {"continuation": "x", "continuation_scores": None}]
    )
    assert (found.texts, found.labels) == (["0.5", "0.51", "0.1"], [0, 1, 0])


def test_the_hub_s_forms_are_read_too(tmp_path):
    """Continuations hold their own scores; two answers each have a label, and both may be unsafe."""
    rows = [{"continuation": {"text": str(s), "toxicity": s}} for s in (0.2, 0.9, None)]
    found = write(tmp_path, "realtoxicityprompts", rows)
    assert (found.texts, found.labels) == (["0.2", "0.9"], [0, 1])
    answers = {"response_0": "a", "response_1": "b", "is_response_1_safe": False}
    rows = [{"prompt": p, **answers, "is_response_0_safe": p == "q"} for p in ("q", "r")]
    found = write(tmp_path, "safe_rlhf", rows)
    assert (found.texts, found.labels, found.groups) == (list("abab"), [0, 1, 1, 1], list("qqrr"))


def test_both_answers_to_one_question_are_one_group(tmp_path):
    rows = [{"prompt": p, "less_safe_response": f"{p}-", "safer_response": f"{p}+"} for p in ("q", "r")]
    found = write(tmp_path, "safe_rlhf", rows)
    assert found.texts == ["q-", "q+", "r-", "r+"]
    assert (found.labels, found.groups) == ([1, 0, 1, 0], ["q", "q", "r", "r"])


def test_rows_of_another_kind_and_one_label_alone(tmp_path):
    with pytest.raises(
        UserError, match=r"jigsaw_test.jsonl, row 1: not a row of jigsaw .*its fields are body"
    ):
        write(tmp_path, "jigsaw", [{"body": "a"}])
    with pytest.raises(UserError, match="both labels"):
        write(tmp_path, "jigsaw", [{"text": "a", "toxic": 1}])
    with pytest.raises(UserError, match="no labelled set 'perspective'"):
        labelled_texts("perspective", tmp_path)
