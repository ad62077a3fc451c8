"""Training in two processes, started by the workflow's own jobs."""

from __future__ import annotations

from pipeline_lib.core.files import read_json
from tests.workflow.study import SUITE, Study

RUN = "authors/tiny/KL/adamw/seed0"


def test_a_study_trains_in_as_many_processes_as_it_asks_for_and_may_change_its_mind(tmp_path):
    suite = {
        **SUITE,
        "runs": [{"methods": ["KL"], "optimizers": ["adamw"]}],
        "objectives": {"KL": {}},
        "optimizers": {"adamw": {"learning_rate": 1e-3}},
        "comparisons": None,
        "stages": {},
        "resources": {**SUITE["resources"], "processes": 2, "sharding": "full"},
    }
    study = Study(tmp_path / "project", suite)
    model = f"results/small/models/{RUN}"
    done = study.snakemake(model)
    assert done.returncode == 0, done.stdout[-6000:]
    for run in ("authors/tiny/original/none/seed0", RUN):
        assert read_json(study.results / "training" / run / "run.json")["processes"] == 2
    log = (study.results / f"logs/unlearn/{RUN}.log").read_text()
    assert "step" in log  # the first process's progress
    assert not list(study.results.rglob("*.processes"))
    study.write({**suite, "resources": SUITE["resources"]})
    assert study.planned(model) == set()
