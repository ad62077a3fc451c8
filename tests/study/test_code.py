"""Which jobs hold which module in the hash of their code: those that use it, and no others."""

from __future__ import annotations

from collections import defaultdict
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from pipeline_lib.core.blocks import choices
from pipeline_lib.core.provenance import PACKAGE, _closure, _files
from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.engine.classifiers import Classifier
from pipeline_lib.influence import SOLVERS
from pipeline_lib.metrics import by_module
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.reporting.catalog import ALL_FIGURES, ALL_TABLES
from pipeline_lib.stages.base import STAGES
from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from pipeline_lib.tasks import sources
from tests.paths import REPO
from tests.study.suites import small

OPTIMIZER_SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"learning_rate": 1e-4},
    "muon": {"learning_rate": 1e-4},
    "adamw_8bit": {"learning_rate": 1e-4},
    "hutchinson": {"kind": "sophia", "learning_rate": 1e-4, "estimator": "hutchinson_rademacher"},
    "lissa": {"kind": "influence", "solver": "lissa"},
    "ekfac": {"kind": "influence", "solver": "ekfac"},
}
# A small suite in which everything is on that changes what code a job runs.
FULL = small(
    seeds=[0],
    tasks={
        "authors": {
            "source": "fictitious",
            "holdout_authors": 4,
            "evaluation": {
                "samples": {"n": 2},
                "grad_norm": True,
                "benchmarks": {"tasks": ["mmlu"]},
                "inside": {},
            },
        },
        "manners": {
            "source": "manners",
            "evaluation": {
                "equal_retain": 0.05,
                "as_released": True,
                "benchmarks": {"tasks": ["arc_easy"]},
                "toxicity": {
                    "classifier": {"kind": "profanity_check"},
                    "prompts": {"source": "task", "split": "unseen"},
                },
            },
        },
    },
    objectives={"GradDiff": None, "WHP": None, "InContext": None},
    optimizers=OPTIMIZER_SETTINGS,
    runs=[
        {
            "tasks": ["authors"],
            "methods": ["GradDiff"],
            "optimizers": ["adamw", "muon", "adamw_8bit", "hutchinson", "lissa", "ekfac"],
        },
        {"tasks": ["authors"], "methods": ["WHP"], "optimizers": ["muon"]},
        {"tasks": ["manners"], "methods": ["GradDiff"], "optimizers": ["muon"]},
        {"tasks": ["manners"], "methods": ["InContext"]},
    ],
    tune={
        "seeds": [1],
        "trials": 2,
        "sampler": "grid",
        "optimizers": {name: {"learning_rate": [1e-4, 2e-4]} for name in OPTIMIZER_SETTINGS},
    },
    stages={
        "other": {"kind": "finetune", "of": ["GradDiff+muon"], "split": "forget", "tasks": ["authors"]},
        "watched": {"kind": "finetune", "of": ["GradDiff+muon"], "points": 2, "tasks": ["authors"]},
        "nearer": {"kind": "interpolate", "of": ["GradDiff+muon"], "tasks": ["authors"]},
        "rounded": {"kind": "quantise", "of": ["GradDiff+muon"], "tasks": ["authors"]},
        "pruned": {"kind": "prune", "of": ["GradDiff+muon"], "tasks": ["authors"]},
        "soup": {"kind": "average", "of": ["GradDiff+muon", "GradDiff+adamw"], "tasks": ["authors"]},
        "soft": {"kind": "ask", "of": ["InContext"], "soft_prompt": {}, "tasks": ["manners"]},
    },
)

PRETRAINED = small(
    seeds=[0, 1],
    models={
        "tiny": {"source": "scratch"},
        "mini": {"source": "scratch", "pretrain": {"text": [{"path": "story.txt"}], "steps": 3}},
    },
    objectives={"GradDiff": None},
    optimizers={"adamw": {"learning_rate": 1e-4}},
)

DEMO = yaml.safe_load((REPO / "config.yaml").read_text(encoding="utf-8"))

# Module -> the jobs that use it, both with wildcards; of several lines that fit a module, the last counts.
# {name}: the module's own name. What stands nowhere is used by no job.
SHARED = {
    "reporting/tables/*": ["table {name}", "html_report"],
    "reporting/tables/comparisons": [
        *["table {name}", "table mixed_effects", "figure forest", "figure power", "html_report"]
    ],
    "reporting/tables/cost": ["table {name}", "paper_table table_time", "html_report"],
    "reporting/tables/extraction": ["table {name}", "paper_table table_copyright", "html_report"],
    "reporting/tables/settings": ["table {name}", "table tuning", "html_report"],
    "reporting/figures/*": ["figure {name}", "html_report"],
    "reporting/paper/*": ["paper_table table_{name}", "paper_figure figure_{name}"],
    "tasks/fictitious": ["prepare_data authors"],
    "tasks/manners": ["prepare_data manners"],
    "objectives/grad_diff": ["unlearn GradDiff+*", "trial GradDiff+*"],
    "training/loop": ["pretrain mini", "finetune", "stage finetune", "unlearn *", "trial *"],
    "training/checkpoint": ["pretrain mini", "finetune", "stage finetune", "unlearn *", "trial *"],
    "training/fine_tuning": ["pretrain mini", "finetune", "stage finetune"],
    "training/pretraining": ["pretrain mini"],
    "training/pretrain_settings": ["pretrain mini"],
    "models/corpus": ["pretrain mini"],
    "data/raw_text": ["pretrain mini"],
    "metrics/*": ["score *"],
    "metrics/answer_accuracy": [],
    "metrics/gap": ["collect", "choose", "table mixed_effects", "html_report"],
    "metrics/recovery": ["collect", "figure recovery", "table robustness", "html_report"],
    "metrics/recovery_max": ["collect", "figure recovery", "html_report"],
    "metrics/joint_utility": [
        "collect",
        "choose",
        "table joint_utility",
        "table mixed_effects",
        "html_report",
        "stage finetune",  # judged on its way; one that is not has no code of that (test_stages.py)
    ],
    "metrics/path": ["collect", "choose", "table mixed_effects", "html_report"],
    "reporting/figures/fronts": [],
    "metrics/classifier_auc": ["score manners"],
    "metrics/depth_score": [],
    "metrics/logit_lens": [],
    "engine/inside": [],
    "metrics/probability": [
        *["score *", "trial *", "choose", "collect", "table mixed_effects", "html_report", "stage finetune"]
    ],
    "metrics/sampled/*": ["score authors"],
    "metrics/toxicity": ["score manners", "judge manners"],
    "metrics/truth_ratio": ["score *", "figure truth_ratio", "html_report"],
}
STAGED = {
    "stages/finetune": ["stage finetune"],
    "stages/quantise": ["stage quantise"],
    "models/quantised": ["stage quantise"],
}
USED: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "demo": (
        DEMO,
        {
            **SHARED,
            **STAGED,
            "reporting/tables/as_released": [],
            "reporting/tables/benchmarks": [],
            "reporting/tables/inside": [],
            "tasks/passages": ["prepare_data book"],
            "objectives/npo": ["unlearn NPO+*"],
            "objectives/po": ["unlearn PO+*"],
            "optimizers/adamw": ["finetune", "stage finetune", "unlearn *+adamw"],
            "optimizers/signum": ["unlearn *+signum"],
            "optimizers/sophia": ["unlearn *+sophia", "unlearn *+sophia_as_released"],
            "curvature/gauss_newton": ["unlearn *+sophia"],
            "engine/classifiers/rude_words": ["judge manners", "toxicity manners"],
            "metrics/benchmarks": [],
            "metrics/equal_retain_mix": [],
            "metrics/mmlu": [],
            "metrics/membership/*": ["score authors", "score book"],
            "metrics/membership/grad_norm": [],
            "metrics/released/*": [],
        },
    ),
    "full": (
        FULL,
        {
            **SHARED,
            **STAGED,
            "reporting/tables/extraction": ["paper_table table_copyright"],
            "objectives/in_context": ["unlearn InContext+none"],
            "objectives/whp": ["unlearn WHP+muon", "trial WHP+muon"],
            "optimizers/adamw": ["finetune", "stage finetune", "*GradDiff+adamw", "*+adamw_8bit", "*WHP+*"],
            "optimizers/adamw_8bit": ["unlearn *+adamw_8bit", "trial *+adamw_8bit"],
            "optimizers/muon": ["unlearn *+muon", "trial *+muon"],
            "optimizers/sophia": ["unlearn *+hutchinson", "trial *+hutchinson"],
            "optimizers/influence": ["*+lissa", "*+ekfac"],
            "curvature/hutchinson": ["*+hutchinson"],
            "curvature/gauss_newton": ["*+ekfac"],  # whose factors it measures
            "influence/newton": ["*+lissa", "*+ekfac"],
            "influence/gauss_newton": ["*+lissa", "*+ekfac"],
            "influence/lissa": ["*+lissa"],
            "influence/ekfac": ["*+ekfac"],
            "influence/diagonal": ["*+ekfac"],
            "training/newton": ["*+lissa", "*+ekfac"],
            "training/generic_labels": ["*WHP+*"],
            "stages/average": ["stage average"],
            "stages/interpolate": ["stage interpolate"],
            "stages/prune": ["stage prune"],
            "models/pruned": ["stage prune"],
            "engine/classifiers/profanity_check": ["judge manners", "toxicity manners"],
            "engine/equal_retain": ["evaluate manners"],
            "engine/soft_prompt": ["evaluate manners"],
            "models/soft_tokens": ["evaluate manners"],
            "metrics/probability": [*SHARED["metrics/probability"], "evaluate manners"],
            "metrics/equal_retain_mix": ["score manners"],
            "metrics/depth_score": ["score authors"],
            "metrics/logit_lens": ["score authors"],
            "engine/inside": ["inside authors"],
            "metrics/membership/*": ["score authors"],
            "metrics/mmlu": ["score authors", "standard_benchmarks *"],
            "metrics/released/*": ["score manners"],
        },
    ),
    "pretrained": (
        PRETRAINED,
        {
            **SHARED,
            "reporting/tables/extraction": ["paper_table table_copyright"],
            "reporting/figures/recovery": [],
            "optimizers/adamw": ["pretrain mini", "finetune", "unlearn *"],
            **{
                f"reporting/tables/{name}": []
                for name in (
                    *("as_released", "benchmarks", "inside", "membership", "preference"),
                    *("robustness", "samples", "toxicity"),
                )
            },
            **{
                f"metrics/{name}": []
                for name in (
                    *("benchmarks", "classifier_auc", "equal_retain_mix", "membership/*", "mmlu"),
                    *("released/*", "sampled/*", "toxicity"),
                )
            },
        },
    ),
}
FAMILIES = (OBJECTIVES, OPTIMIZERS, ESTIMATORS, SOLVERS, STAGES)
OTHERS = (
    *("data.raw_text", "models.corpus", "training.pretraining", "training.pretrain_settings"),
    *("engine.equal_retain", "engine.inside", "engine.soft_prompt", "models.soft_tokens"),
    *("influence.gauss_newton", "influence.newton", "metrics.mmlu"),
    *("training.checkpoint", "training.fine_tuning", "training.generic_labels"),
    *("training.loop", "training.newton"),
)
MODULES = {
    *(kind.__module__ for family in FAMILIES for kind in family.kinds().values()),
    *(settings.__module__ for settings in sources().values()),
    *by_module(),
    *(block.module for block in choices(Classifier).values()),
    *(f"pipeline_lib.reporting.{item.module}" for item in (ALL_TABLES | ALL_FIGURES).values()),
    *(f"pipeline_lib.{name}" for name in OTHERS),
}


def jobs_by_file(suite: dict[str, Any]) -> dict[str, set[str]]:
    """File of the library -> the jobs that hold it in the hash of their code."""
    found: dict[str, set[str]] = defaultdict(set)
    for job in Graph(parse_suite(suite)).jobs.values():
        for file in set().union(*map(_closure, job.code)):
            found[file.relative_to(PACKAGE).as_posix()].add(title(job))
    return found


def title(job: Job) -> str:
    """The rule of a job, with the row, the stage, the task or the item where these decide what runs."""
    if job.rule in ("finetune", "choose", "collect"):
        return job.rule
    if job.run is None:
        return job.title
    if job.rule in ("unlearn", "trial"):
        return f"{job.rule} {job.run.method}+{job.run.optimizer}"
    if job.rule == "stage":
        return f"stage {job.settings['stage']['kind']}"
    of_anchor = "anchor of " if job.rule == "evaluate" and job.run.row.anchor else ""
    return f"{job.rule} {of_anchor}{job.run.task}"


@pytest.mark.parametrize("suite", USED)
def test_a_module_counts_for_exactly_the_jobs_that_use_it(suite: str) -> None:
    raw, used = USED[suite]
    holding = jobs_by_file(raw)
    every = set().union(*holding.values())
    for module in sorted(MODULES):
        place = module.removeprefix("pipeline_lib.").replace(".", "/")
        name = place.rpartition("/")[2]
        lines = [jobs for pattern, jobs in used.items() if fnmatchcase(place, pattern)]
        wanted = [job.format(name=name) for job in (lines[-1] if lines else [])]
        expected = {job for job in every if any(fnmatchcase(job, pattern) for pattern in wanted)}
        assert holding[_files(module)[-1].relative_to(PACKAGE).as_posix()] == expected, place
    assert all(
        any(fnmatchcase(file, f"{pattern}*.py") for file in holding) for pattern in used if used[pattern]
    )


@pytest.mark.parametrize("suite", USED)
def test_nothing_of_training_counts_for_what_measures(suite: str) -> None:
    for file, jobs in jobs_by_file(USED[suite][0]).items():
        if file.partition("/")[0] in ("training", "objectives", "optimizers", "curvature", "influence"):
            measuring = {"evaluate", "toxicity", "judge", "standard_benchmarks", "inside", "score", "collect"}
            assert not measuring & {job.split()[0] for job in jobs}, file
            assert "stage average" not in jobs, file
