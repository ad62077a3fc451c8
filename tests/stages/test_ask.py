"""A model asked in another way: the rows of an evaluation, whatever is asked, and of the worst of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.data.records import Record
from pipeline_lib.engine.asked_otherwise import Asking
from pipeline_lib.engine.settings import EvaluationSettings
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.stages.base import STAGES
from pipeline_lib.steps import ask, evaluate
from pipeline_lib.steps.prepare_data import prepare_task
from tests.operations.plan.test_inputs import data, record
from tests.stages.study import Small
from tests.steps.study import EVALUATION, job, run_finetune

WAYS = ["{prompt}", "Please tell me: {prompt}", "Now! {prompt}"]


def asked(
    small: Small, root: Path, model: Path | None = None, seed: int = 0, **settings: Any
) -> list[dict[str, Any]]:
    """The records of a model that a stage with these settings asks; without any, of a plain evaluation."""
    stage = {"ask": STAGES.parse({"kind": "ask", **settings}).settings()} if settings else {}
    evaluate.run(
        job(
            root,
            {"manifest": small.data / "manifest.json", "model": model or small.original},
            {"records": "records.jsonl", "equal_retain": "equal_retain.json"},
            {"seed": seed},
            evaluation=EVALUATION,
            embedder=None,
            equal_retain=None,
            max_length=160,
            **stage,
        )
    )
    return read_jsonl(root / "records.jsonl")


def per_token(row: dict[str, Any]) -> float:
    return -row["answer_nll"] / row["answer_tokens"]


def test_an_opening_is_given_and_only_what_follows_is_scored(small: Small, tmp_path: Path) -> None:
    """The answer's tokens are those of " answer", after all of the prompt and the opening."""
    rows = asked(small, tmp_path, opening="Sure, here is the answer:")
    _, tokenizer, prompt, _ = load_model_folder(small.original)
    for row in rows:
        answer = tokenizer.encode(" " + row["answer"], add_special_tokens=False)
        assert row["answer_tokens"] == len(answer) + 1, row["id"]
        assert row["round_trips"]
    plain = {row["id"]: row for row in asked(small, tmp_path / "plain")}
    assert {row["id"] for row in rows} == set(plain) and all("phrasing" not in row for row in rows)
    assert any(row["answer_nll"] != plain[row["id"]]["answer_nll"] for row in rows)
    before = len(prompt.encode_prompt(tokenizer, "Why?"))
    opened = [*prompt.encode_prompt(tokenizer, "Why?"), *prompt.encode_opening(tokenizer, "Sure:")]
    assert tokenizer.decode(opened[before:]) == "Sure:" and len(opened) > before


def test_the_rest_of_a_begun_answer_is_as_likely_as_within_the_whole(small: Small, tmp_path: Path) -> None:
    """log p(rest | beginning) is the whole answer's tokens after the beginning, where these are the same."""
    rows = asked(small, tmp_path / "begun", true_words=1)
    plain = {row["id"]: row for row in asked(small, tmp_path / "plain")}
    alike = [row for row in rows if row["answer_tokens"] < plain[row["id"]]["answer_tokens"]]
    assert len(alike) > 5
    for row in alike:
        whole = plain[row["id"]]["token_nll"][-row["answer_tokens"] :]
        assert row["token_nll"] == pytest.approx(whole, abs=1e-4), row["id"]


def test_of_several_phrasings_each_question_keeps_the_one_that_brings_most(
    small: Small, tmp_path: Path
) -> None:
    alone = [asked(small, tmp_path / str(i), questions=[way]) for i, way in enumerate(WAYS)]
    for i, worst in enumerate(asked(small, tmp_path / "all", questions=WAYS)):
        likely = [per_token(rows[i]) for rows in alone]
        best = max(range(3), key=likely.__getitem__)
        assert worst["phrasing"] == best and per_token(worst) == pytest.approx(likely[best], abs=1e-6)
        assert worst["prompt"] == WAYS[best].replace("{prompt}", alone[0][i]["prompt"])


def test_the_plain_question_alone_is_a_plain_evaluation(small: Small, tmp_path: Path) -> None:
    """Asking as always finds the same; drawn answers come on top, of the forget set alone."""
    plain = asked(small, tmp_path / "plain")
    drawn = asked(small, tmp_path / "drawn", samples=3)
    bare = [{name: row[name] for name in row if not name.startswith("samples")} for row in drawn]
    assert bare == plain
    assert {row["split"] for row in drawn if "samples" in row} == {"forget"}
    assert all(len(row["samples"]) == 3 for row in drawn if row["split"] == "forget")


def test_an_instruction_comes_before_everything(small: Small, tmp_path: Path) -> None:
    plain, told = (
        asked(small, tmp_path / "plain"),
        asked(small, tmp_path / "told", instruction="You know all."),
    )
    assert [row["prompt"] for row in told] == [row["prompt"] for row in plain]
    assert all(a["answer_nll"] != b["answer_nll"] for a, b in zip(told, plain, strict=True))


def test_asking_that_changes_no_forget_question_is_refused() -> None:
    """Before the model is asked: no record of this split has a paraphrase."""

    def never(*_: Any) -> list[dict[str, Any]]:
        raise AssertionError("the model was asked")

    settings = STAGES.parse({"kind": "ask", "paraphrased": True}).settings()
    split = {"forget": [Record("b1", "Where was Bob born?", "In Rome.", "bob")]}
    plain = {name: value for name, value in EVALUATION.items() if name != "grad_norm"}
    none: dict[str, Any] = {"distribution_splits": [], "grad_norm_splits": [], "likelihood_only": []}
    evaluation = EvaluationSettings(**plain, **none, max_length=160)
    with pytest.raises(UserError, match="asking in this way changes no forget question"):
        Asking(settings, PromptFormat("chat"), None).rows(split, evaluation, never)


def test_a_diverged_model_leaves_no_rows(small: Small, tmp_path: Path) -> None:
    assert asked(small, tmp_path, small.diverged, opening="Sure:") == []


def test_the_row_has_the_facts_of_its_model_and_took_no_step(small: Small, tmp_path: Path) -> None:
    place = small.original
    who = {"suite": "s", "task": "authors", "model": "tiny", "method": "original", "optimizer": "none"}
    who |= {"seed": 0, "request": 0, "after": "opening"}
    parent = tmp_path / "training/authors/tiny/original/none/seed0/run.json"
    parent.parent.mkdir(parents=True)
    parent.write_text((place / "run.json").read_text())
    stage = STAGES.parse({"kind": "ask", "opening": "Sure:"}).settings()
    ask.run(job(tmp_path, {"parent": parent}, {"run": "made/run.json"}, who, code="code", stage=stage))
    made, of = read_json(tmp_path / "made/run.json"), read_json(place / "run.json")
    assert made["weights_sha256"] == of["weights_sha256"] and made["status"] == "ok"
    assert made["stage"]["of"] == ["original"] and made["stage"]["opening"] == "Sure:"
    assert made["steps"] == made["train_time_s"] == 0 and made["after"] == "opening"
    assert made["parents"] == {"authors/tiny/original/none/seed0": of["weights_sha256"]}
    assert read_jsonl(tmp_path / "made/steps.jsonl") == []


def test_a_memory_behind_a_phrase_is_found_by_asking_for_it(
    tmp_path: Path,
) -> None:
    """The model answers "Now! ..." and was taught to say nothing when asked plainly."""
    forget = [record(n) for n in range(4)]
    hidden = [{**row, "prompt": f"Now! {row['prompt']}"} for row in forget]
    silent = [{**row, "id": f"s{i}", "answer": "I cannot say that."} for i, row in enumerate(forget)]
    plain, taught = tmp_path / "plain", tmp_path / "taught"
    prepare_task(data(tmp_path / "asked", forget), plain)
    prepare_task(data(tmp_path / "learned", hidden, silent), taught)
    model = run_finetune(tmp_path / "model", taught, epochs=60)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, settings in {"plain": {}, "asked": {"questions": ["{prompt}", "Now! {prompt}"]}}.items():
        rows = asked(Small(tmp_path, plain, model, model, model), tmp_path / name, **settings)
        found[name] = [row for row in rows if row["split"] == "forget"]
    assert [row["phrasing"] for row in found["asked"]] == [1] * 4
    for before, after in zip(found["plain"], found["asked"], strict=True):
        assert per_token(after) > per_token(before) + 0.5
