"""Fine-tuning, unlearning and tuning in two processes leave the folders that one process leaves."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.distributed.launch import Processes, call
from pipeline_lib.steps.prepare_data import prepare_task
from tests.distributed import studies
from tests.distributed.grid import differences
from tests.steps import study
from tests.training.runs import timeless

TOLERANCE = 1e-5  # in fp32
ROUNDED = 2**-7  # a bf16 weight that is rounded up in one run and down in the other


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder with what two processes left (`two`) beside what one left (`one`)."""
    root = tmp_path_factory.mktemp("steps")
    prepare_task(study.TASK, root / "data")
    parent = study.run_finetune(root / "original", root / "data")
    given = {"root": root / "two", "data": root / "data", "parent": parent, "device": "cpu"}
    log = root / "log"
    try:
        call(studies.all_of, given, Processes(2), root / "launch", log)
    except Exception:
        print(log.read_text())
        raise
    study.run_finetune(root / "one" / "finetune", root / "data", **studies.TRAINING)
    for name in studies.WHOLE:
        studies.run(root / "one" / name, root / "data", parent, name)
    studies.run_trial(root / "one" / "trial", root / "data", parent)
    return root


def cases():
    yield from (("whole", name) for name in ("finetune", *studies.WHOLE))
    yield from (("parts", name) for name in ("finetune", *studies.SHARDED))


@pytest.mark.parametrize("how, name", list(cases()))
def test_model_log_and_facts_are_those_of_one_process(how, name, root):
    one, two = root / "one" / name, root / "two" / how / name
    tolerance = ROUNDED if "bf16" in name else TOLERANCE
    expected, found = studies.weights(one), studies.weights(two)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=tolerance, atol=tolerance), key
    assert studies.facts(two) == studies.facts(one)
    assert read_json(two / "model" / "run.json")["processes"] == 2
    logs = [timeless(read_jsonl(place / "training" / "steps.jsonl")) for place in (one, two)]
    assert logs[0]
    for key, difference in differences(*logs):
        assert difference <= tolerance, key
    assert not (two / "checkpoint").exists() and not (two / "checkpoint-labels").exists()


def test_a_trial_gives_the_numbers_of_one_process(root):
    one, two = (read_json(root / who / "trial" / "trial.json") for who in ("one", "two"))
    assert one["status"] == two["status"] == "ok"
    for found, expected in zip(two["questions"], one["questions"], strict=True):
        assert found["id"] == expected["id"]
        assert found["log_probability"] == pytest.approx(expected["log_probability"], rel=2 * TOLERANCE)


def test_what_cannot_be_sharded_is_refused_with_the_reason(root):
    message = read_json(root / "two" / "refused.json")
    assert message.startswith("L1Sparse cannot be trained with resources.sharding full")
    assert "all weights at once" in message
    assert not (root / "two" / "refused" / "model").exists()
