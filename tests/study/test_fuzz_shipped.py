"""The shipped suites, spoiled in hundreds of ways: each plans and dry-runs, or is refused in one message."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, note, settings

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_access, check_fits, check_inputs, finished, plan_text
from pipeline_lib.reporting.catalog import TABLES, measured_by
from pipeline_lib.study import Suite, dump_suite, parse_suite
from pipeline_lib.study.table import models_of, run_labels, tuned_index
from tests.paths import REPO
from tests.study.dry_run import dry_run
from tests.study.mutations import mutants
from tests.study.suites import many_words

MUTANTS = 200
DRY_RUN_JOBS = 40  # models of a mutant: larger DAGs say nothing new and take seconds
FILES = {  # of $PIPELINE_DATA, as small as the suites that read them allow
    "books/alice_in_wonderland.txt": "It was a dark night. " * 2000,
    "realtoxicityprompts/prompts.jsonl": '{"prompt": "It was"}\n' * 500,
    "wikitext2/test_raw.txt": many_words(),
    "c4/some.jsonl": '{"text": "It was"}\n' * 500,
}
COUNTS: Counter[str] = Counter()


def _shipped() -> dict[str, dict[str, Any]]:
    """The suites as files hold them, with one seed of each, which keeps their DAGs small."""
    suites = {}
    for path in (REPO / "config.yaml", *sorted((REPO / "config").glob("*.yaml"))):
        suite = yaml.safe_load(path.read_text(encoding="utf-8"))
        suites[path.stem] = {**suite, "seeds": suite.get("seeds", [0])[:1]}
    return suites


@pytest.fixture(scope="module", autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """No model, data or hub of this machine decides what comes of a mutant; FILES are at hand."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("fuzz")
        patch.chdir(folder)
        for name in ("PIPELINE_MODELS", "PIPELINE_TASKS"):
            patch.delenv(name, raising=False)
        for name, text in FILES.items():
            (folder / "data" / name).parent.mkdir(parents=True)
            (folder / "data" / name).write_text(text, encoding="utf-8")
        patch.setenv("PIPELINE_DATA", str(folder / "data"))
        patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
        yield


@settings(max_examples=MUTANTS, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(mutants(_shipped()))
def test_a_spoiled_suite_is_planned_and_dry_runs_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, mutant: tuple[str, str, Any]
) -> None:
    name, done, raw = mutant
    note(f"{name}: {done}")  # without shrinking, which would take minutes, this says where to look
    COUNTS["mutants"] += 1
    before = copy.deepcopy(raw)
    try:
        suite = planned(raw)
    except UserError as error:
        check_message(str(error))
        COUNTS["refused"] += 1
        tenth = crc32(str(error).encode()) % 10 == 0  # the same ones on every run
        if tenth and "suite" in raw and snakemake_can_write(raw):
            folder = tmp_path_factory.mktemp("dry")
            refused = dry_run(raw, folder).refused
            # A path of the suite starts where it runs.
            expected = str(error).replace(str(Path.cwd()), str(folder))
            later = not str(error).startswith("the suite has")  # told when jobs are about to start
            assert expected in refused if refused else later, refused
            COUNTS["refused by snakemake"] += refused is not None
        return
    assert repr(raw) == repr(before), "reading a suite changed it"
    COUNTS["valid"] += 1
    if len(models_of(suite)) + sum(len(row.trials) for row in tuned_index(suite).values()) <= DRY_RUN_JOBS:
        folder = tmp_path_factory.mktemp("dry")
        planned_jobs = dry_run(raw, folder)
        assert planned_jobs.refused is None, planned_jobs.refused
        assert planned_jobs.jobs > len(models_of(suite))
        assert not (folder / "results").exists() and not list(Path.cwd().rglob("pwned*"))
        COUNTS["dry runs"] += 1


def test_the_mutants_were_enough_of_both_kinds() -> None:
    """Runs after the fuzz, which counts; a fuzz whose mutants are all refused would test half of it."""
    if COUNTS["mutants"] == 0:
        pytest.skip("the fuzz did not run in this process")
    print(dict(COUNTS))
    assert COUNTS["mutants"] >= MUTANTS
    # Of the suites that read files of their own, which are not here, every mutant is refused.
    assert COUNTS["refused"] >= MUTANTS // 4 and COUNTS["valid"] >= MUTANTS // 6
    assert COUNTS["dry runs"] >= MUTANTS // 10 and COUNTS["refused by snakemake"] >= MUTANTS // 50


def snakemake_can_write(raw: Any) -> bool:
    """It writes the configuration that it is given as text, which Python refuses of 4300 digits and more."""
    try:
        repr(raw)
    except ValueError:
        return False
    return True


def planned(raw: Any) -> Suite:
    """Everything that the workflow asks of a suite before its first job; `UserError` where it is refused."""
    suite = parse_suite(raw)
    check_inputs(suite, finished("results/none"))
    check_fits(suite, finished("results/none"))
    assert plan_text(suite, finished("results/none")).startswith(f"Plan of {suite.suite!r}")
    check_access(suite)
    assert measured_by(suite, TABLES)
    json.dumps(run_labels(models_of(suite)), allow_nan=False)
    for row in tuned_index(suite).values():
        json.dumps([trial.tuned for trial in row.trials.values()], allow_nan=False)
    assert parse_suite(yaml.safe_load(dump_suite(suite))).resolved() == suite.resolved()
    return suite


def check_message(message: str) -> None:
    """One message for people: it can be printed, is no flood, and speaks of the suite, not of Python."""
    message.encode("utf-8")
    assert len(message) < 20_000 and len(message.splitlines()) <= 40, message[:1000]
    for noise in ("Traceback", "pydantic", "Input should", "Value error", "NoneType", 'File "'):
        assert noise not in message, message
