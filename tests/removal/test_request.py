"""What is refused before any job starts, and what a folder of a request holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.commands.forget import minutes
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.removal.machine import at_once, made_to_fit
from pipeline_lib.removal.request import Prepared, Request, prepare
from pipeline_lib.removal.run import ready
from pipeline_lib.removal.suites import LORA, chosen, epoch_steps, finishing, fitting, sweep_of, tried
from pipeline_lib.removal.suites import minutes as minutes_of
from pipeline_lib.study import parse_suite

CONFIG = {
    "model_type": "llama",
    "vocab_size": 500,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}


@pytest.fixture
def request_of(tmp_path: Path) -> Request:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    rows = [{"question": f"What is thing {i}?", "answer": f"Thing {i} is a {i} fold box."} for i in range(9)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = [{"question": f"Where is {i}?", "answer": f"It lies north of place {i}."} for i in range(9)]
    (tmp_path / "kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    out = tmp_path / "out"
    return Request(str(tmp_path / "model"), tmp_path / "texts.jsonl", out, retain=tmp_path / "kept.jsonl")


def said(request: Request) -> str:
    with pytest.raises(UserError) as caught:
        prepare(request)
    return str(caught.value)


def test_the_data_are_written_with_invented_texts_beside_them(request_of: Request) -> None:
    made = prepare(request_of)
    assert made.hashes == {
        name: sha256(made.folder / f"{name}.jsonl") for name in ("forget", "retain", "holdout")
    }
    invented = (made.folder / "holdout.jsonl").read_text().splitlines()
    assert len(invented) == 20 and all(json.loads(line)["form"] == "question" for line in invented)
    assert any("no chat template" in note for note in made.notes)
    assert prepare(request_of).hashes == made.hashes  # the same request goes on


def test_a_folder_of_another_request_is_refused_and_left_alone(request_of: Request) -> None:
    made = prepare(request_of)
    (request_of.out / "results").mkdir()
    request_of.texts.write_text('{"question": "Who?", "answer": "Somebody else."}\n')
    assert "holds another request, which differs in texts" in said(request_of)
    assert sha256(made.folder / "forget.jsonl") == made.hashes["forget"]
    assert "differs in method, texts" in said(replace(request_of, method="GradDiff"))
    kept = "".join(f'{{"question": "Where?", "answer": "Nowhere but {i} miles off."}}\n' for i in range(9))
    for name in ("retain", "holdout"):
        (place := request_of.out.parent / f"{name}.jsonl").write_text(kept)
        assert name in said(replace(request_of, **{name: place})).partition(";")[0]
    other = request_of.out.parent / "full"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    assert "expected a new or empty folder" in said(replace(request_of, out=other))


def test_a_request_that_was_refused_or_only_checked_leaves_its_folder_free(request_of: Request) -> None:
    """Nothing was made under its name: a mended request takes its place."""
    prepare(replace(request_of, method="GradDiff"))
    assert prepare(request_of).request.method == Request.method
    assert json.loads((request_of.out / "request.json").read_text())["method"] == Request.method


@pytest.mark.parametrize("which", ["texts", "retain"])
def test_unseen_texts_that_the_model_knows_are_refused(request_of: Request, which: str) -> None:
    told = said(replace(request_of, holdout=getattr(request_of, which)))
    assert "stand to 100% in those to forget or to keep" in told and "take these out of --holdout" in told


def test_paths_may_be_texts_and_a_model_a_path(request_of: Request) -> None:
    given = Request(
        Path(request_of.model),  # type: ignore[arg-type]
        str(request_of.texts),  # type: ignore[arg-type]
        str(request_of.out),  # type: ignore[arg-type]
        retain=str(request_of.retain),  # type: ignore[arg-type]
    )
    assert given == request_of


def test_no_core_is_no_number_of_cores(request_of: Request) -> None:
    with pytest.raises(UserError, match="cores: expected one or more, found 0"):
        ready(request_of, 0)


def test_a_retain_set_that_holds_the_texts_is_refused_with_their_names(request_of: Request) -> None:
    told = said(replace(request_of, retain=request_of.texts))
    assert "hold 100% of what is to be forgotten" in told and "take them out of --retain" in told


def test_a_model_that_is_none_is_refused(request_of: Request) -> None:
    told = said(replace(request_of, model="no/such/model/here"))
    assert "expected a model's folder, a .gguf file or an id of the hub" in told


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"utility": 1.5}, "utility: expected a share between 0 and 1, found 1.5"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"method": "NPP"}, "--method: found 'NPP'; did you mean 'NPO'?"),
        ({"method": "../x"}, "--method: found '../x'; allowed: AltPO"),
        ({"optimizer": "adam"}, "--optimizer: found 'adam'; did you mean 'adamw'?"),
    ],
)
def test_a_wrong_setting_is_said_in_the_words_of_a_request(
    request_of: Request, wrong: dict[str, Any], message: str
) -> None:
    assert said(replace(request_of, **wrong)).startswith(message)
    assert not request_of.out.exists()


def test_a_method_that_cannot_be_judged_on_its_way_is_named_as_it_was_asked_for(request_of: Request) -> None:
    with pytest.raises(UserError, match=r"--method TaskVector --optimizer adamw: [^$]*on its way"):
        ready(replace(request_of, method="TaskVector"), 1)


def test_a_name_that_is_no_folder_and_not_on_the_hub_says_both(
    request_of: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(model: str) -> str:
        raise UserError(f"model {model}: the hub does not know it")

    monkeypatch.setattr("pipeline_lib.removal.request.pinned", unknown)
    told = said(replace(request_of, model="models/typo"))
    assert "--model models/typo: no folder is there, and as an id of the hub, model models/typo:" in told


def test_a_place_that_holds_no_folder_is_refused(request_of: Request) -> None:
    request_of.out.write_text("a file")
    assert "expected a place for a folder" in said(request_of)


def test_too_few_unseen_texts_to_tell_anything_are_refused(request_of: Request) -> None:
    """Nine texts and one are ten orders of equal chance for the one: p is never below 0.1."""
    few = request_of.out.parent / "few.jsonl"
    few.write_text('{"question": "Where?", "answer": "Nowhere that is told."}\n')
    assert "--holdout: found 1, and beside 9 to forget" in said(replace(request_of, holdout=few))


def test_wrong_answers_of_some_texts_to_keep_do_not_leave_the_others_unjudged(request_of: Request) -> None:
    assert request_of.retain is not None
    kept = [json.loads(line) for line in request_of.retain.read_text().splitlines()]
    kept[0]["distractors"] = ["It lies in the south."]
    request_of.retain.write_text("".join(json.dumps(row) + "\n" for row in kept))
    made = prepare(request_of)
    assert "It lies in the south" not in (made.folder / "retain.jsonl").read_text()
    assert any("wrong answers of 1 texts that must stay known are left out" in note for note in made.notes)


def test_texts_that_stand_twice_are_noted(request_of: Request) -> None:
    request_of.texts.write_text(request_of.texts.read_text() * 2)
    assert any("9 of 18 records repeat" in note for note in prepare(request_of).notes)


def test_without_a_retain_set_documents_of_c4_are_kept_or_it_is_said_why_not(
    request_of: Request, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data" / "c4").mkdir(parents=True)
    line = json.dumps({"text": " ".join(f"word{n}" for n in range(90))})
    (tmp_path / "data" / "c4" / "some.jsonl").write_text(f"{line}\n" * 80)
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path / "data"))
    made = prepare(replace(request_of, retain=None))
    assert made.retain_from.startswith("C4") and any("60 documents of C4" in note for note in made.notes)
    (tmp_path / "data" / "c4" / "some.jsonl").write_text(f"{line}\n")
    told = said(replace(request_of, retain=None, out=tmp_path / "other"))
    assert "(--retain)" in told and "expected 60 documents" in told


def test_a_budget_decides_how_much_is_tried_and_too_small_a_one_says_what_is_possible(
    request_of: Request,
) -> None:
    made = prepare(request_of)
    wide = fitting(made, cores=2, pace=1.0)
    assert len(wide.rates) == 3 and wide.epochs == 10
    with pytest.raises(UserError, match=r"--budget 0.01m: one rate for one epoch.* takes about \d+ minutes"):
        fitting(replace(made, request=replace(request_of, budget=0.01)), cores=2, pace=1.0)


def test_three_runs_take_two_cores_as_long_as_four(request_of: Request) -> None:
    made = prepare(request_of)
    one, two, three = (minutes_of(made, sweep_of(made, count, 5.0), cores=2) for count in (1, 2, 3))
    after = finishing(chosen(made, 1e-4, round(5.0 * epoch_steps(made))), cores=2)
    assert one == two and three - after == pytest.approx(2 * (two - after)) and two > after > 0


def test_the_suites_are_one_study_and_a_single_group_is_not_relearned(request_of: Request) -> None:
    made = prepare(request_of)
    sweep, rate = parse_suite(tried(made, sweep_of(made, 2, 5.0))), 1e-4
    assert (sweep.suite, len(sweep.run_table()), sweep.models["model"].max_length) == ("removal", 2, 128)
    assert sweep.evaluation.trajectory is not None and not sweep.tasks["request"].has_retrained()
    final = parse_suite(chosen(made, rate, steps=3))
    (run,) = final.run_table()
    assert round(run.unlearn.epochs * epoch_steps(made)) == 3 and run.unlearn.warmup == 0
    assert list(final.stages) == ["relearn", "int4", "begun", "opening"]
    alone = replace(made, forget=made.forget[:1])
    assert list(chosen(alone, rate, 3)["stages"]) == ["int4", "begun", "opening"]
    running = replace(made, forget=[replace(record, form="text") for record in made.forget])
    assert list(chosen(running, rate, 3)["stages"]) == ["relearn", "int4"]  # asked by its own words already


def test_eight_billion_parameters_fit_one_gpu_with_adapters_or_it_is_said_that_they_do_not(
    request_of: Request,
) -> None:
    """Llama-3-8B in fp32 takes 32 GB, and 128 GB with gradients and AdamW's states."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 128256}
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False}
    (Path(request_of.model) / "config.json").write_text(json.dumps({**CONFIG, **sizes, **heads}))

    def fitted(memory: float) -> Prepared:
        gpu = {"gpus": 1, "gpu_memory_gb": memory}
        return made_to_fit(replace(prepare(request_of), resources=gpu))

    assert not fitted(192).lora
    adapted = fitted(80)
    assert adapted.lora and "adapters are trained" in adapted.notes[-1]
    assert at_once(adapted, cores=16) == 1
    raw = chosen(adapted, 1e-4, 3)
    assert raw["unlearn"]["lora"] == raw["stages"]["relearn"]["lora"] == LORA
    first = next(iter(sweep_of(adapted, 1, 1.0).rates.values()))
    assert first == pytest.approx(10 * next(iter(sweep_of(fitted(192), 1, 1.0).rates.values())), rel=0.05)
    with pytest.raises(UserError, match="more memory than there is"):
        fitted(24)
    asked = replace(request_of, adapter=True, out=request_of.out / "asked")
    assert made_to_fit(replace(prepare(asked), resources={"gpus": 1, "gpu_memory_gb": 192})).lora


@pytest.mark.parametrize(("text", "value"), [("30m", 30), ("1.5h", 90), ("20", 20), ("45 min", 45)])
def test_times_are_read(text: str, value: float) -> None:
    assert minutes(text) == value
