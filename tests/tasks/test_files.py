"""Own files: what the planner is told of them, and what judges them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.data.splits import check_task
from pipeline_lib.tasks import task_settings
from pipeline_lib.tasks.base import SplitSize

WRONG = {"distractors": ["Somebody quite else did."]}


def settings(folder: Path, retain: dict[str, Any], **more: Any) -> Any:
    folder.mkdir(exist_ok=True)
    for split, count, extra in (("forget", 3, {}), ("retain", 4, retain)):
        rows = [
            {
                "prompt": f"Who made the {split} {i:02d}?",
                "answer": "Ada made it in 1901.",
                "group": f"g{i // 2}",
            }
            | extra
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return task_settings({"source": "files", "folder": str(folder), **more})


@pytest.mark.parametrize(
    ("learned", "of_forget", "of_retain"), [(True, "target", "both"), (False, "none", "none")]
)
def test_the_plan_knows_how_large_the_files_are(
    tmp_path: Path, learned: bool, of_forget: Any, of_retain: Any
) -> None:
    """A prompt of 23 characters is about six tokens, an answer of 20 five."""
    task = settings(tmp_path, WRONG, learned=learned)
    assert task.size_hint() == {
        "forget": SplitSize(3, 6, 5, 11, 1, of_forget, groups=2),
        "retain": SplitSize(4, 6, 5, 11, 2, of_retain, groups=2),
    }
    (tmp_path / "forget.jsonl").write_text('{"prompt": "Who?", "answer": "Ada."}\n')
    assert task.size_hint()["forget"].records == 1  # the content counts, not what was read before
    (tmp_path / "forget.jsonl").write_text("{")
    assert task.size_hint() is None


def test_records_without_wrong_answers_are_judged_by_what_they_have(tmp_path: Path) -> None:
    task = settings(tmp_path / "plain", {}).load()
    check_task(task)
    assert task.utility == [] and task.judged_by()["utility"][0] == ("retain", "probability")
    task = settings(tmp_path / "choices", WRONG).load()
    check_task(task)
    assert task.utility == ["retain"] and task.judged_by()["utility"][0] == ("utility", "model_utility")
