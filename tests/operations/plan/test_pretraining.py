"""A base that a study pretrains itself, before the start: its estimate, and what is wrong with its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_fits, check_inputs, groups_of, plan_text
from pipeline_lib.operations.plan.access import Repository, repositories
from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.operations.plan.requests import Requests
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.operations.status.remaining import remaining
from pipeline_lib.operations.status.states import states_of
from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.tasks.passages.story import story
from tests.study.suites import COMMIT, small

SIZES = {"source": "scratch", "hidden_size": 32, "intermediate_size": 48, "layers": 2, "vocab_size": 300}
SIZES |= {"max_length": 200}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTS", str(tmp_path))
    Path("story.txt").write_text(story(3, "elsewhere", 3000), encoding="utf-8")


def suite(pretrain: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A suite of one model that learns a story first; `pretrain` and `model` change these blocks."""
    first = {"text": [{"path": "$TEXTS/story.txt"}], "steps": 5, "context": 32, "batch_size": 4}
    models = {"mini": {**SIZES, **(model or {}), "pretrain": {**first, **(pretrain or {})}}}
    raw = {
        "models": models,
        "objectives": {"GradDiff": None},
        "optimizers": {"adamw": {"learning_rate": 1e-4}},
    }
    return parse_suite(small(**{**raw, **changes}))


def faults(made: Any, **options: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_inputs(made, **options)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_good_text_leaves_nothing_to_say():
    assert check_inputs(suite()) == []


def test_a_missing_file_is_named_with_its_place(tmp_path):
    (line,) = faults(suite({"text": [{"path": "story.txt"}, {"path": "$TEXTS/none.txt"}]}))
    place = tmp_path / "none.txt"
    assert line.startswith("models.mini.pretrain.text.1.path: expected a file or folder at")
    assert line.endswith(f" {place}, found nothing; correct the path")
    (line,) = faults(suite({"text": [{"path": "$UNSET_HERE/a.txt"}]}))
    assert "the environment variable UNSET_HERE is not set" in line


@pytest.mark.parametrize(
    "text, changes, message",
    [
        (" \n\n", {}, "story.txt: holds no text to learn"),
        ("Too short.", {}, "a step takes 4; give more text, or a smaller `context` or `batch_size`"),
        (None, {"model": {"vocab_size": 9000}}, "`vocab_size` is 9000, and the text has merges for "),
        ("\x00\x80", {}, "story.txt"),
    ],
)
def test_unfit_text_is_refused_before_any_job(text, changes, message):
    if text is not None:
        Path("story.txt").write_bytes(text.encode("latin-1"))
    line, *_ = faults(suite(**changes))
    assert line.startswith("models.mini.pretrain.text: ") and message in line


def test_text_that_holds_the_forget_set_is_refused():
    made = suite()
    records = made.tasks["authors"].load().splits["forget"]
    with open("story.txt", "a", encoding="utf-8") as handle:
        handle.writelines(f"{record.prompt} {record.answer}\n" for record in records)
    (line,) = faults(made)
    assert line.startswith("models.mini.pretrain.text: holds 100.0% of the forget set of 'authors'")
    assert "`retrained` would know it too" in line


def test_a_base_that_is_made_is_not_looked_at_again(monkeypatch):
    made = suite({"text": [{"path": "none.txt"}]})
    assert faults(made)
    assert check_inputs(made, lambda job: job.rule in ("pretrain", "finetune")) == []
    assert faults(made, pairs={("authors", "mini")})
    assert check_inputs(made, pairs=set()) == []


def test_records_are_measured_in_tokens_of_the_base():
    *_, line = faults(suite(model={"max_length": 40}))
    assert "do not fit the `max_length` of 'mini' (40 tokens)" in line


def test_text_on_the_hub_is_not_looked_at_and_its_access_is():
    place = {"hub": "lab/text", "revision": COMMIT, "file": "en/one.json.gz", "documents": 5}
    made = suite({"text": [place]})
    (line,) = check_inputs(made)
    assert "the text that mini is pretrained on (data set lab/text is on the hub)" in line
    assert repositories(made) == [Repository("dataset", "lab/text", COMMIT)]


# --- estimates ----------------------------------------------------------------------------------------


def work_of(made: Any) -> Training:
    work = next(work for job, work in planned_jobs(made) if job.rule == "pretrain")
    assert isinstance(work, Training)
    return work


def test_steps_come_from_tokens_or_are_given():
    assert work_of(suite()).steps == 5
    assert work_of(suite({"steps": None, "tokens": 12_800, "accumulation": 2})).steps == 50
    assert work_of(suite({"steps": None, "tokens": 1})).steps == 1
    whole = work_of(suite({"context": None}))
    assert whole.retain is not None and whole.retain.longest == 200, "the model's `max_length`"


def test_time_grows_with_the_steps_and_the_base_is_counted_once():
    one, two = (seconds_of(work_of(suite({"steps": steps}))) for steps in (100_000, 200_000))
    assert two / one == pytest.approx(2, rel=0.05)
    made = suite(seeds=[0, 1, 2])
    (group,) = (group for group in groups_of(made) if group.kind == "pretrain")
    assert (group.task, group.model, group.jobs, group.methods) == ("-", "mini", 1, ("base",))
    assert "pretrain  -        mini   base" in plan_text(made)


def test_what_would_make_it_fit_names_its_own_block():
    pretrain = {"batch_size": 4096, "text": [{"path": "story.txt"}]}
    made = suite(pretrain, resources={"memory_limit_mb": 600, "device": "cpu"})
    with pytest.raises(
        UserError, match=r"pretrain of mini \(base\) needs about .*: models\.mini\.pretrain\.b"
    ):
        check_fits(made)


def test_it_asks_a_cluster_for_what_the_plan_says_and_has_its_share_of_the_time_left(tmp_path):
    made = suite({"steps": 100_000}, seeds=[0])
    graph = Graph(made)
    job = graph.jobs["pretrain", "mini"]
    assert Requests(made, 4).minutes(job, 1) >= 3 * seconds_of(work_of(made)) / 60
    states = list(states_of(graph.study(), tmp_path, None))
    left = remaining(made, states, tmp_path, None)
    assert left.by_rule["pretrain"] == pytest.approx(seconds_of(work_of(made)))


def test_documents_of_a_table(tmp_path):
    rows = [{"text": document} for document in story(3, "elsewhere", 3000).split("\n\n")]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert check_inputs(suite({"text": [{"path": "rows.jsonl"}]})) == []
    (line,) = faults(suite({"text": [{"path": "rows.jsonl", "documents": 1}]}))
    assert "give more text" in line
