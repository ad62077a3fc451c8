"""The block `evaluation.toxicity`: whose prompts, asked how, judged by whom."""

from __future__ import annotations

import pytest

from pipeline_lib.engine.classifiers import RudeWords, load_classifier
from pipeline_lib.engine.classifiers.rude_words import WordListClassifier
from pipeline_lib.engine.classifiers.validation import VALIDATED
from pipeline_lib.metrics.toxicity import BLIND_BELOW
from pipeline_lib.study import parse_suite
from pipeline_lib.study.evaluation import Toxicity
from tests.study.suites import error, small

MANNERS = {"manners": {"source": "manners"}}
OWN = {"classifier": {"kind": "rude_words"}, "prompts": {"source": "task"}}


def test_a_task_s_own_prompts() -> None:
    block = parse_suite(small(tasks=MANNERS, evaluation={"toxicity": OWN})).evaluation.toxicity
    assert (block.prompts.source, block.prompts.split, block.chat) == ("task", "unseen", None)
    assert parse_suite(small(tasks=MANNERS, evaluation={"toxicity": {**OWN, "chat": True}}))
    assert error(small(tasks=MANNERS, evaluation={"toxicity": {**OWN, "chat": False}})) == (
        "evaluation.toxicity.chat: found false; the task's own prompts are asked in the model's format"
    )
    file = {"classifier": {"kind": "profanity_check"}, "prompts": {"source": "file", "path": "x"}}
    for chat in (None, False, True):
        assert Toxicity.model_validate({**file, "chat": chat}).chat is chat


@pytest.mark.parametrize("split", ["later", "holdout"])
def test_a_split_that_the_task_does_not_have(split) -> None:
    own = {**OWN, "prompts": {"source": "task", "split": split}}
    tasks = {"manners": {"source": "manners", "holdout": 2}}
    assert error(small(tasks=tasks, evaluation={"toxicity": own})).startswith(
        f"evaluation.toxicity.prompts.split: the task 'manners' has no split '{split}'; "
    )


def judge(classifier: str, prompts: dict[str, str], source: str) -> str | None:
    block = Toxicity.model_validate({"classifier": {"kind": classifier}, "prompts": prompts})
    return block.judge_fault(source)


def test_a_judge_that_is_blind_is_known_before_any_job() -> None:
    own, file = {"source": "task"}, {"source": "file", "path": "x"}
    assert judge("rude_words", own, "manners") is None
    assert "nothing else" in (judge("rude_words", own, "tofu") or "")
    assert "nothing else" in (judge("rude_words", file, "manners") or "")
    assert "blind to harm without bad words" in (judge("profanity_check", own, "detox") or "")
    for source in ("manners", "tofu"):
        assert judge("profanity_check", own, source) is None
    assert judge("profanity_check", file, "detox") is None


def test_what_the_suite_knows_of_judges_is_what_was_measured() -> None:
    assert WordListClassifier.made_for == {"manners"}
    assert load_classifier(RudeWords(kind="rude_words"), "cpu").name == "rude_words 1"
    blind = {(name.split()[0], kind) for (name, kind), v in VALIDATED.items() if v.auc < BLIND_BELOW}
    assert blind == {("alt-profanity-check", "safe_rlhf")}
