"""What the planner is told of a task before its data are read, against the data."""

from __future__ import annotations

import re
from statistics import mean
from typing import Any

import pytest

from pipeline_lib.tasks import task_settings
from tests.paths import shared_data

# settings, and the folder of the real data that they need
CASES = [
    ({"source": "manners", "holdout": 15}, None),
    ({"source": "fictitious", "holdout_authors": 3}, None),
    ({"source": "fictitious", "forget_draw": 2}, None),
    ({"source": "tofu"}, "tofu"),
    ({"source": "tofu", "forget": "forget05", "forget_draw": 1}, "tofu"),
    ({"source": "tofu", "forget": "forget05", "retain_authors": 18, "holdout_authors": 10}, "tofu"),
    ({"source": "detox", "learned": True, "holdout": 50}, "safe_rlhf"),
]


def pieces(text: str) -> int:
    """Words and signs. A tokenizer with a large vocabulary makes up to 1.45 tokens of one in these texts."""
    return len(re.findall(r"\w+|[^\w\s]", text))


@pytest.mark.parametrize(("raw", "folder"), CASES)
def test_the_hint_is_near_what_the_data_are(
    raw: dict[str, Any], folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder is not None:
        monkeypatch.setenv("PIPELINE_DATA", str(shared_data(folder).parent))
    settings = task_settings(raw)
    task, hint = settings.load(), settings.size_hint()
    assert hint is not None and set(settings.evaluated_splits()) <= set(hint)
    for name, size in hint.items():
        records = task.splits[name]
        assert size.records == len(records), name
        assert size.groups in (None, len({record.group for record in records})), name
        given = {1 + (r.paraphrased_answer is not None) + len(r.distractors) for r in records}
        if name in task.evaluate and name != task.holdout:
            assert {size.texts} == given, name
        prompts, answers = [pieces(r.prompt) for r in records], [pieces(r.answer) for r in records]
        for said, counted in ((size.prompt, mean(prompts)), (size.answer, mean(answers))):
            assert 0.9 * counted <= said <= 1.45 * counted + 2, name
        longest = max(p + a for p, a in zip(prompts, answers, strict=True))
        assert longest <= size.longest <= 1.5 * longest + 6, name
        learned = [model for model in ("target", "retrained") if name in task.finetune.get(model, ())]
        assert learned == {"both": ["target", "retrained"], "target": ["target"], "none": []}[size.learned_by]
