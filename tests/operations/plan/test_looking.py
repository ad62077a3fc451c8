"""What looking into layers costs: a lens is one pass, a patch one a layer, and a second model in memory."""

from __future__ import annotations

from typing import Any

from pipeline_lib.operations.plan.jobs import planned_jobs
from pipeline_lib.operations.plan.looking import Looking
from pipeline_lib.study import parse_suite
from tests.study.suites import small


def looked(model: str, **inside: Any) -> Looking:
    suite = parse_suite(small(seeds=[0], evaluation={"inside": inside}))
    found = {job.run.method: work for job, work in planned_jobs(suite) if job.rule == "inside" and job.run}
    work = found[model]
    assert isinstance(work, Looking)
    return work


def test_patching_holds_a_second_model_and_reads_once_a_layer() -> None:
    patched, plain = looked("NPO"), looked("original")
    assert (patched.patched, plain.patched) == (True, False)
    assert (patched.looked, patched.asked.records) == (4, 40)
    extra = sum(patched.phases()["looking"].values()) - sum(plain.phases()["looking"].values())
    assert extra == patched.weights == 4 * patched.shape.parameters
    assert patched.seconds() > plain.seconds() == looked("NPO", depth=False).seconds()


def test_fewer_layers_and_records_cost_less() -> None:
    whole = looked("NPO")
    for less in (looked("NPO", layers=3), looked("NPO", max_records=4)):
        assert less.seconds() < whole.seconds()
        assert less.phases()["looking"]["states of layers"] < whole.phases()["looking"]["states of layers"]
    assert looked("NPO", layers=3).looked == 2
