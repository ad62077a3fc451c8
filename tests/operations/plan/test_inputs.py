"""What a suite reads is looked at before a job starts: every fault in one message, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_inputs, pairs_of_targets
from pipeline_lib.study import dump_suite, parse_suite
from tests.paths import REPO
from tests.study.suites import COMMIT, small

SCRATCH = {"source": "scratch", "hidden_size": 32, "intermediate_size": 48, "layers": 2, "vocab_size": 300}


def record(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "id": f"r{number}",
        "prompt": f"Where does person {number} live?",
        "answer": f"In street {number} of the old town.",
        "group": f"g{number % 3}",
        "distractors": [f"In street {number + 50} of the old town."],
    }
    return {**plain, **changes}


def data(
    folder: Path, forget: list[dict[str, Any]], retain: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Settings of a task of two files."""
    folder.mkdir(parents=True, exist_ok=True)
    retain = [record(number) for number in range(10, 16)] if retain is None else retain
    for name, rows in (("forget", forget), ("retain", retain)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"source": "files", "folder": str(folder)}


def suite(task: dict[str, Any], **changes: Any) -> Any:
    raw = {"models": {"tiny": {**SCRATCH, "max_length": 120}}, "tasks": {"own": task}, **changes}
    return parse_suite(small(**raw))


def faults(made: Any, **options: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_inputs(made, **options)
    head, *lines = str(caught.value).splitlines()
    assert head.startswith("what this suite reads has ")
    return [line.strip() for line in lines]


def test_benchmarks_are_read_before_any_job(tmp_path, monkeypatch):
    task = data(tmp_path / "own", [record(n) for n in range(4)])
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    asked = {"benchmarks": {"tasks": ["piqa", "arc_easy"], "folder": str(tmp_path)}}
    (tmp_path / "commonsense").mkdir()
    (tmp_path / "commonsense/arc_easy_test.jsonl").write_text('{"question": "Why?", "answer": 0}')
    piqa, arc = faults(suite(task, evaluation=asked))
    assert piqa.startswith(
        "evaluation of own.benchmarks: benchmark piqa: expected commonsense/piqa_validation"
    )
    assert "row 1: no field 'choices' as benchmark arc_easy needs" in arc
    unknown = {"benchmarks": {"lm_eval": {"lambada_opena": None, "lambada_openai": None}}}
    one, other = faults(suite(task, evaluation=unknown))
    assert "did you mean 'lambada_openai'?" in one
    assert (
        "expected lm_eval/lambada_openai/test.jsonl (or .parquet) in the folder of data, or a commit" in other
    )
    (line,) = check_inputs(suite(task, evaluation={"benchmarks": {"tasks": ["piqa"]}}))
    assert "the benchmark piqa (data set baber/piqa is on the hub)" in line


def test_whole_data_pass_and_nothing_is_left_to_say(tmp_path):
    assert check_inputs(suite(data(tmp_path, [record(n) for n in range(4)]))) == []


def test_every_fault_of_the_records_comes_at_once(tmp_path):
    forget = [record(0, distractors=["In street 0 of the old town."]), record(1), record(11)]
    retain = [record(11), record(12, distractors=[" "]), record(13)]
    one, other, shared = faults(suite(data(tmp_path, forget, retain)))
    assert one.startswith("tasks.own: split 'forget', record 'r0': the distractor")
    assert other.startswith("tasks.own: split 'retain', record 'r12': a distractor is blank")
    assert shared.startswith("tasks.own: splits 'forget' and 'retain' overlap: 1 of 3 records")


@pytest.mark.parametrize("method", [{"AltPO": None}, {"DPO": {"alternatives": "records"}}])
def test_methods_that_teach_other_answers_need_them(tmp_path, method):
    forget = [record(n) for n in range(4)]
    (line,) = faults(suite(data(tmp_path / "bare", forget), objectives=method))
    assert line.startswith(f"objectives.{next(iter(method))}: on the task 'own': ")
    assert "'r0' has no alternatives" in line
    forget = [record(n, alternatives=[f"Nobody knows {n}."]) for n in range(4)]
    assert check_inputs(suite(data(tmp_path / "full", forget), objectives=method)) == []
    forget[2]["alternatives"] = [forget[2]["answer"] + " "]
    (line,) = faults(suite(data(tmp_path / "equal", forget), objectives=method))
    assert "'r2' has its own answer among the alternatives" in line


def test_labels_cannot_be_dealt_where_most_answers_are_equal(tmp_path):
    forget = [record(n, answer="In the north.") for n in range(3)] + [record(3)]
    (line,) = faults(suite(data(tmp_path, forget), objectives={"RandomLabels": None}))
    assert "3 of the 4 records have the same answer" in line


def test_records_longer_than_the_model_reads(tmp_path):
    forget = [record(0), record(1, answer="very " * 100 + "far")]
    models = {"tiny": {**SCRATCH, "max_length": 100}}
    (line,) = faults(suite(data(tmp_path, forget), models=models))
    assert line.startswith("tasks.own: 1 record(s) do not fit the `max_length` of 'tiny' (100 tokens): r1 (")
    assert "Raise `models.tiny.max_length`" in line
    # the count is that of the job: with room for exactly so many tokens nothing is wrong
    needed = int(line.split("r1 (")[1].split()[0])
    for room, fits in ((needed, True), (needed - 1, False)):
        made = suite(data(tmp_path, forget), models={"tiny": {**SCRATCH, "max_length": room}})
        if fits:
            assert check_inputs(made) == []
        else:
            assert "do not fit" in faults(made)[0]


def test_the_counted_length_is_that_of_the_encoded_record(tmp_path):
    """Held against the encoder of the jobs, for a question and for running text."""
    from pipeline_lib.data.records import Record
    from pipeline_lib.models.encoding import encode_records
    from pipeline_lib.models.prompt import PromptFormat
    from pipeline_lib.models.scratch import build_scratch, train_bpe
    from pipeline_lib.operations.plan.local_models import _lengths

    settings = parse_suite(small(models={"tiny": SCRATCH})).models["tiny"]
    texts = [record(n)["prompt"] + record(n)["answer"] for n in range(9)]
    _, tokenizer = build_scratch(settings, texts, 0)
    records = [
        Record("0", record(0)["prompt"], record(0)["answer"], "g"),
        Record("1", record(1)["prompt"], record(1)["answer"], "g", form="text"),
    ]
    prompt_format = PromptFormat(**dict(settings.prompt))
    examples = encode_records(records, tokenizer, prompt_format, 500, learn=True)
    counted = _lengths(train_bpe(settings, texts), settings, [(r, r.answer) for r in records])
    assert counted == [len(example.tokens) for example in examples]


def test_prompts_that_leave_no_room_for_an_answer(tmp_path):
    forget = [record(0), record(1, prompt="Where, " * 60 + "?")]
    models = {"tiny": {**SCRATCH, "max_length": 200}}
    (line,) = faults(suite(data(tmp_path, forget), models=models, evaluation={"max_new_tokens": 150}))
    assert line.startswith("evaluation.max_new_tokens: found 150, and 1 prompts of the task 'own' leave less")
    most = int(line.split("at most ")[1].split(",")[0])
    assert (
        check_inputs(suite(data(tmp_path, forget), models=models, evaluation={"max_new_tokens": most})) == []
    )


def test_model_folders_are_looked_at_beside_the_data(tmp_path):
    (tmp_path / "empty").mkdir()
    models = {
        "gone": {"source": "folder", "path": str(tmp_path / "gone")},
        "empty": {"source": "folder", "path": str(tmp_path / "empty")},
        "file": {"source": "gguf", "path": str(tmp_path)},
    }
    found = faults(
        suite(data(tmp_path / "data", [record(0)], [record(9), record(10, group="")]), models=models)
    )
    assert [line.split(":")[0] for line in found] == [
        "models.gone.path",
        "tasks.own",
        "models.empty",
        "models.file",
    ]
    assert "`group` must be a non-empty text" in found[1]
    assert "config.json is missing" in found[2]


def test_what_is_not_looked_at_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)
    models = {"far": {"source": "hub", "id": "lab/far", "revision": COMMIT}}
    tasks = {"authors": {"source": "tofu", "hub": "lab/authors", "revision": COMMIT}}
    (line,) = check_inputs(parse_suite(small(models=models, tasks=tasks)))
    assert line.startswith("Not looked at before the run: ")
    assert "the task authors (data set lab/authors is on the hub)" in line
    assert "the model far (model lab/far is on the hub)" in line


def test_a_model_from_nothing_cannot_be_taken_as_it_is(tmp_path):
    (line,) = faults(suite({**data(tmp_path, [record(0), record(1)]), "learned": False}))
    assert line.startswith("models.tiny: is made from scratch and knows nothing")


def test_a_headline_names_metrics_that_this_task_can_have(tmp_path, monkeypatch):
    made = suite(data(tmp_path, [record(0), record(1)]))
    judged = ["probabilty", "ks_statistic", "privleak", "ks_statistic_as_released"]
    task = replace(
        made.tasks["own"].load(),
        finetune={"target": ["forget", "retain"]},
        headline={"forgetting": [("forget", name) for name in judged], "utility": [("rest", "probability")]},
    )
    monkeypatch.setattr(type(made.tasks["own"]), "load", lambda settings: task)
    monkeypatch.setattr(type(made.tasks["own"]), "has_retrained", lambda settings: False)
    typo, distance, leak, split = faults(made)
    assert typo.startswith("tasks.own: `headline` names 'probabilty', which is no metric; did you")
    assert (
        distance
        == "tasks.own: `headline` names ks_statistic, which compares with a `retrained`, and there is none"
    )
    assert leak.startswith("tasks.own: `headline` names privleak, which compares with a `retrained`")
    assert split.startswith(
        "tasks.own: `headline` names probability of the split 'rest', which is not evaluated;"
    )


def test_targets_name_what_is_looked_at(tmp_path):
    good, bad = data(tmp_path / "good", [record(0)]), {"source": "files", "folder": str(tmp_path / "bad")}
    made = parse_suite(small(models={"tiny": SCRATCH}, tasks={"good": good, "bad": bad}))
    path = f"results/{made.suite}/data/good/manifest.json"
    assert pairs_of_targets(made, [path]) == {("good", "tiny")}
    assert pairs_of_targets(made, [path, f"results/{made.suite}/report/index.html"]) is None
    assert pairs_of_targets(made, ["all"]) is None
    assert check_inputs(made, pairs=pairs_of_targets(made, [path])) == []
    assert "tasks.bad.folder" in faults(made)[0]


def test_without_torch_and_transformers_it_is_the_same(tmp_path):
    for name in ("torch", "transformers"):
        (tmp_path / "no" / name).mkdir(parents=True)
        (tmp_path / "no" / name / "__init__.py").write_text("raise ImportError('not for this machine')\n")
    made = suite(data(tmp_path / "data", [record(0, answer="far " * 200)]), objectives={"AltPO": None})
    (tmp_path / "suite.yaml").write_text(dump_suite(made))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_lib", "validate", str(tmp_path / "suite.yaml")],
        env={"PYTHONPATH": f"{tmp_path / 'no'}:{REPO}", "PATH": ""},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "has no alternatives" in done.stderr and "do not fit" in done.stderr
