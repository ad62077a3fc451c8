"""The graph that a suite declares, held against the one that Snakemake builds from the rules, job by job."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.core.provenance import source_hash
from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from tests.paths import REPO
from tests.study.dry_run import DryRun, Planned, dry_run
from tests.study.suites import errors, many_words, small

FILES = {  # that shipped suites name, as small as their tasks allow
    "COPYRIGHTED_BOOK": ("book.txt", "It was a dark night. " * 2000),
    "REAL_TOXICITY_PROMPTS": ("prompts.jsonl", '{"prompt": "It was"}\n' * 500),
}
AT_HAND = {  # below $PIPELINE_DATA
    "books/alice_in_wonderland.txt": FILES["COPYRIGHTED_BOOK"][1],
    "realtoxicityprompts/prompts.jsonl": FILES["REAL_TOXICITY_PROMPTS"][1],
    "wikitext2/test_raw.txt": many_words(),
    "c4/some.jsonl": '{"text": "It was"}\n' * 500,
}
TUNE = {
    "seeds": [100, 101],
    "trials": 2,
    "optimizers": {"adamw": {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}}},
}
STAGES = {
    "other": {"kind": "finetune", "split": "facts"},
    "soup": {"kind": "average", "of": ["GradDiff+adamw", "GradDiff+adamw/other"]},
    "again": {"kind": "finetune", "of": ["soup", "original"], "split": "facts"},
}


def shipped() -> dict[str, dict[str, Any]]:
    """The suites as files hold them, with a seed or two."""
    suites = {}
    for path in (REPO / "config.yaml", *sorted((REPO / "config").glob("*.yaml"))):
        suite = yaml.safe_load(path.read_text(encoding="utf-8"))
        suites[path.stem] = {**suite, "seeds": suite.get("seeds", [0])[:2]}
    one = {"optimizers": {"adamw": {"learning_rate": 1e-3}}, "objectives": {"GradDiff": None}}
    suites["tuned"] = small(tune=TUNE, **one)
    suites["drawn"] = small(tune={**TUNE, "forget_draw": 1}, **one)
    suites["rounds"] = small(tune={**TUNE, "rounds": 3, "forget_draw": 1}, **one)
    suites["by probability"] = small(tune={**TUNE, "select": {"forget": "probability"}}, **one)
    suites["stages"] = small(stages=STAGES, seeds=[0, 1], **one)
    return suites


SUITES = shipped()


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, (name, text) in FILES.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(variable, str(tmp_path / name))
    for name, text in AT_HAND.items():
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True)
        place.write_text(text)
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)


@pytest.mark.parametrize("name", SUITES)
def test_every_job_is_the_workflows(name: str, tmp_path: Path) -> None:
    suite = SUITES[name]
    if name == "paper":
        del suite["models"]["opt_1_3b"]["path"]
        suite["models"]["opt_1_3b"] |= {"source": "hub", "id": "facebook/opt-1.3b", "revision": "0" * 40}
    done = dry_run(suite, tmp_path / "run")
    assert done.refused is None, done.refused
    declared = {as_planned(job) for job in Graph(parse_suite(suite)).study()}
    assert declared == set(done.planned)


PAPER = {"table_tofu": ("authors",), "table_time": ("authors", "rude"), "figure_highlight": ("authors",)}


def test_the_items_of_the_paper_are_the_workflows_each_from_its_own_tasks(tmp_path: Path) -> None:
    suite = small(tasks={"authors": {"source": "fictitious"}, "rude": {"source": "manners"}})
    declared = Graph(parse_suite(suite)).jobs
    done = dry_run(suite, tmp_path / "run", *(f"paper_{item}" for item in PAPER))
    assert done.refused is None, done.refused
    shown = {plan.log: plan for plan in done.planned if plan.rule.startswith("paper_")}
    for item, tasks in PAPER.items():
        rule = f"paper_{item.partition('_')[0]}"
        plan = shown.pop(f"logs/{rule}/{item}.log")
        assert plan == as_planned(declared[rule, item])
        assert {Path(file).parts[1] for file in plan.inputs if file.startswith("collected")} == set(tasks)
        params, _ = done.given[plan.log]
        assert params["settings"]["item"] == item and params["settings"]["tasks"] == list(tasks)
    assert not shown


@pytest.fixture(scope="module")
def on_gpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], DryRun]:
    """Tuning and stages, on two GPUs whose weights are shared out."""
    suite = small(
        tune=TUNE,
        stages=STAGES,
        seeds=[0, 1],
        optimizers={"adamw": {"learning_rate": 1e-3}},
        objectives={"GradDiff": {"gamma": 2.5}},
        unlearn={"epochs": 3},
        resources={"gpus": 2, "sharding": "full"},
    )
    done = dry_run(suite, tmp_path_factory.mktemp("gpus") / "run")
    assert done.refused is None, done.refused
    return suite, done


def test_every_job_is_handed_its_own_parameters(on_gpus: tuple[dict[str, Any], DryRun]) -> None:
    """By the workflow's rules, each of which asks for its parameters by name."""
    suite, done = on_gpus
    for job in Graph(parse_suite(suite)).study():
        params, _ = done.given[job.log]
        assert params["step"] == job.code[0] and params["code"] == source_hash(*job.code)
        assert params["settings"].items() >= job.settings.items(), job.title
        assert params["settings"].keys() == job.settings.keys() | {name for name, _ in job.reads}
        assert params["identity"].items() >= ({} if job.run is None else job.run._asdict()).items()
        assert params["work"] == (None if job.work is None else f"results/small/{job.work}")


def test_parameters_are_what_the_suite_says(on_gpus: tuple[dict[str, Any], DryRun]) -> None:
    """Spelled out from the suite file, without the graph."""
    _, done = on_gpus
    row = "authors/tiny/GradDiff/adamw"
    unlearn, stage, trial, choose, finetune = (
        done.given[f"logs/{place}.log"][0]
        for place in (
            f"unlearn/{row}/seed1",
            f"stage/{row}/seed1.other",
            f"trial/{row}/trial2/seed101",
            f"choose/{row}",
            "finetune/authors/tiny/retrained/none/seed1",
        )
    )
    names = {"suite": "small", "task": "authors", "model": "tiny", "method": "GradDiff", "optimizer": "adamw"}
    assert unlearn["identity"].items() >= {**names, "seed": 1, "after": ""}.items()
    assert stage["identity"].items() >= {**names, "seed": 1, "after": "other"}.items()
    assert trial["identity"].items() >= {**names, "seed": 101, "trial": 2}.items()
    assert finetune["identity"].items() >= {**names, "method": "retrained", "optimizer": "none"}.items()
    for settings in (unlearn["settings"], trial["settings"]):
        assert (settings["objective"]["kind"], settings["objective"]["gamma"]) == ("GradDiff", 2.5)
        assert settings["optimizer"]["kind"] == "adamw" and settings["unlearn"]["epochs"] == 3
    assert "learning_rate" not in unlearn["settings"]["optimizer"], "which the tuning chooses"
    assert 1e-4 <= trial["settings"]["optimizer"]["learning_rate"] <= 1e-2
    assert choose["settings"]["seeds"] == [100, 101]
    assert choose["settings"]["select"] == {"forget": "gap", "utility_within": 0.05}
    assert choose["settings"]["forget_draw"] is None
    assert choose["settings"]["ranges"]["optimizer"] == TUNE["optimizers"]["adamw"]
    kind_and_split = {name: stage["settings"]["stage"][name] for name in ("kind", "split")}
    assert kind_and_split == {"kind": "finetune", "split": "facts"}
    assert len({params["code"] for params in (unlearn, stage, trial, choose, finetune)}) == 5


def test_resources_are_what_the_suite_says(on_gpus: tuple[dict[str, Any], DryRun]) -> None:
    """A training takes all GPUs, a measurement one, the rest none; retries are not asked for here."""
    _, done = on_gpus
    asked = {log: resources for log, (_, resources) in done.given.items()}
    kinds = {log.split("/")[1]: resources for log, resources in asked.items() if "/soup/" not in log}
    for rule in ("finetune", "unlearn", "trial", "stage"):
        assert (kinds[rule]["gpu"], kinds[rule]["sharding"]) == (2, "full"), rule
    assert kinds["evaluate"]["gpu"] == 1 and "sharding" not in kinds["evaluate"]
    for rule in ("prepare_data", "score", "choose", "collect", "table"):
        assert not {"gpu", "sharding"} & kinds[rule.removesuffix(".log")].keys(), rule
    assert all(resources["mem_mb"] > 0 and resources["runtime"] > 0 for resources in asked.values())


def as_planned(job: Job) -> Planned:
    return Planned(job.rule, files(job.inputs.values()), files(job.outputs.values()), job.log, job.benchmark)


def files(places: Collection[str | tuple[str, ...]]) -> frozenset[str]:
    return frozenset(file for place in places for file in ([place] if isinstance(place, str) else place))


@pytest.mark.parametrize("name", SUITES)
def test_jobs_stand_in_an_order_in_which_they_can_run(name: str) -> None:
    if name == "paper":
        pytest.skip("its model is a folder of the user's")
    made: set[str] = set()
    for job in Graph(parse_suite(SUITES[name])).study():
        assert files(job.inputs.values()) <= made, f"{job.title} reads what is made later"
        assert made.isdisjoint(files(job.outputs.values())), f"{job.title} writes what another job wrote"
        assert job.result in files(job.outputs.values())
        made |= files(job.outputs.values())


def jobs_of(name: str) -> dict[tuple[str, str], Job]:
    return {(job.rule, job.name): job for job in Graph(parse_suite(SUITES[name])).study()}


def test_tuning_on_another_draw_has_data_and_models_of_its_own() -> None:
    """Nothing that is reported reads them, and all that is reported is made as without the draw."""
    plain, found = jobs_of("tuned"), jobs_of("drawn")
    own = {(rule, name) for rule, name in found if "@draw1" in name}
    anchors = [f"authors@draw1/tiny/{m}/none/seed{s}" for m in ("original", "retrained") for s in (100, 101)]
    assert own == {
        ("prepare_data", "authors@draw1"),
        *((rule, name) for rule in ("finetune", "evaluate") for name in anchors),
    }
    replaced = {(rule, name.replace("@draw1", "")) for rule, name in own}
    assert found.keys() - own == plain.keys() - replaced | {("prepare_data", "authors")}
    data = found["prepare_data", "authors@draw1"].settings["task"]
    assert data == {**found["prepare_data", "authors"].settings["task"], "forget_draw": 1}
    for place, job in found.items():
        reads = [path for path in files(job.inputs.values()) if "@draw1" in path]
        if place not in own and job.rule not in ("trial", "choose"):
            assert not reads, f"{job.title} is reported, and reads {reads}"
            ignored = ("suite",) if job.rule == "describe_suite" else ()
            kept = {name: value for name, value in job.settings.items() if name not in ignored}
            assert kept == {name: plain[place].settings[name] for name in kept}, job.title
            assert job.inputs == plain[place].inputs


def test_trials_and_choices_read_what_was_made_for_tuning_alone() -> None:
    for suite, task in (("tuned", "authors"), ("drawn", "authors@draw1")):
        jobs, row = jobs_of(suite), "authors/tiny/GradDiff/adamw"
        trial, choose = jobs["trial", f"{row}/trial2/seed101"], jobs["choose", row]
        assert trial.inputs == {
            "manifest": f"data/{task}/manifest.json",
            "parent": f"models/{task}/tiny/original/none/seed101",
            "made": (f"training/{task}/tiny/original/none/seed101/run.json",),
        }
        records = {
            method: tuple(f"evaluations/{task}/tiny/{method}/none/seed{s}/records.jsonl" for s in (100, 101))
            for method in ("original", "retrained")
        }
        trials = tuple(f"tuning/{row}/trial{n}/seed{s}.json" for n in (1, 2) for s in (100, 101))
        assert choose.inputs == {"manifest": f"data/{task}/manifest.json", "trials": trials, **records}
        assert choose.settings["forget_draw"] == (None if suite == "tuned" else 1)


def test_later_rounds_are_declared_and_read_the_ranges_of_theirs() -> None:
    jobs, row = jobs_of("rounds"), "authors/tiny/GradDiff/adamw"
    assert {name for rule, name in jobs if rule == "trial"} == {
        f"{row}/trial{n}/seed{s}" for n in range(1, 7) for s in (100, 101)
    }
    for number, place in enumerate((f"{row}/round1", f"{row}/round2", row), start=1):
        choice = jobs["choose" if place == row else "choose_so_far", place]
        trials = tuple(
            f"tuning/{row}/trial{n}/seed{s}.json" for n in range(1, 2 * number + 1) for s in (100, 101)
        )
        assert choice.inputs["trials"] == trials
        later = tuple(f"tuning/round{n}.json" for n in range(2, number + 1))
        assert choice.inputs.get("widened", ()) == later
    assert jobs["widen", "2"].inputs == {"choices": (f"tuning/{row}/round1.json",)}
    assert jobs["widen", "3"].inputs == {
        "choices": (f"tuning/{row}/round2.json",),
        "before": "tuning/round2.json",
    }
    first, last = (jobs["trial", f"{row}/trial{n}/seed100"] for n in (2, 6))
    assert "ranges" not in first.inputs and last.inputs["ranges"] == "tuning/round3.json"
    assert first == jobs_of("drawn")["trial", f"{row}/trial2/seed100"], "whatever the number of rounds"
    assert "tuned" not in last.settings and last.settings["row"] == row
    assert 0 <= last.settings["places"]["optimizer"]["learning_rate"] < 1
    assert jobs["widen", "2"].settings == {
        "rows": {
            row: {
                "ranges": {"optimizer": TUNE["optimizers"]["adamw"], "objective": {}},
                "limits": {"optimizer": {"learning_rate": [2, 2]}, "objective": {}},
            }
        }
    }
    assert jobs["widen", "2"].code == ("pipeline_lib.steps.widen",), "which runs no method"


def test_by_probability_no_retrained_is_made_for_tuning() -> None:
    jobs = jobs_of("by probability")
    assert ("finetune", "authors/tiny/original/none/seed100") in jobs
    assert ("finetune", "authors/tiny/retrained/none/seed100") not in jobs
    choose = jobs["choose", "authors/tiny/GradDiff/adamw"]
    assert "retrained" not in choose.inputs and choose.settings["select"]["forget"] == "probability"


def test_the_graph_is_a_function_of_the_suite_alone() -> None:
    one, two = (Graph(parse_suite(SUITES["stages"])).study() for _ in range(2))
    assert one == two


def test_a_stage_takes_any_model_and_its_models_are_evaluated_as_others_are() -> None:
    jobs = {(job.rule, job.name): job for job in Graph(parse_suite(SUITES["stages"])).study()}
    place = "authors/tiny/{}/seed1"
    after, soup, chain, anchor = (
        place.format("GradDiff/adamw") + ".other",
        place.format("soup/none"),
        place.format("soup/none") + ".again",
        place.format("original/none") + ".again",
    )
    for name in (after, soup, chain, anchor):
        assert {rule for rule, of in jobs if of == name} == {"stage", "evaluate", "score"}
    parents = [jobs["stage", name].inputs["parents"] for name in (after, soup, chain)]
    assert parents == [
        (f"models/{place.format('GradDiff/adamw')}",),
        (f"models/{place.format('GradDiff/adamw')}", f"models/{after}"),
        (f"models/{soup}",),
    ]
    reference = f"evaluations/{place.format('retrained/none')}/records.jsonl"
    assert jobs["score", anchor].inputs["reference"] == reference, "not of the next seed, as an anchor's"


def test_what_a_job_reads_on_this_machine_and_where_it_goes_on_after_a_kill() -> None:
    place = {"source": "folder", "path": "somewhere"}
    judge = {"kind": "folder", "path": "somewhere", "label": "toxic"}
    measured = {
        "embedder": place,
        "benchmarks": {"tasks": ["piqa"]},
        "toxicity": {"classifier": judge, "prompts": {"source": "file", "path": "somewhere"}},
    }
    suite = parse_suite(small(evaluation=measured))
    asked = suite.evaluation
    (model,), (task,) = suite.models.values(), suite.tasks.values()
    read = {"prepare_data": task, "finetune": model, "evaluate": asked.embedder}
    read |= {"standard_benchmarks": asked.benchmarks, "toxicity": asked.toxicity, "judge": asked.toxicity}
    works = {"finetune": "", "unlearn": "", "evaluate": "evaluate/"}
    works |= {"standard_benchmarks": "benchmarks/", "toxicity": "toxicity/"}
    for job in Graph(suite).study():
        expected = (("inputs", read[job.rule]),) if job.rule in read else ()
        assert job.reads == expected, job.title
        place = f"checkpoints/{works[job.rule]}{job.name}" if job.rule in works else None
        assert job.work == place, job.title


def test_a_retrained_model_is_compared_with_that_of_another_seed_and_all_others_with_their_own() -> None:
    jobs = {(job.rule, job.name): job for job in Graph(parse_suite(small())).study()}

    def reference(model: str, seed: int) -> object:
        return jobs["score", f"authors/tiny/{model}/seed{seed}"].inputs["reference"]

    of = "evaluations/authors/tiny/retrained/none/seed{}/records.jsonl"
    assert [reference("retrained/none", seed) for seed in (0, 1)] == [of.format(1), of.format(0)]
    for model in ("original/none", "NPO/adamw"):
        assert [reference(model, seed) for seed in (0, 1)] == [of.format(0), of.format(1)]


def test_a_base_is_made_once_and_every_task_and_seed_starts_from_it() -> None:
    text = {"text": [{"path": "story.txt"}], "steps": 3}
    mini = {"source": "scratch", "pretrain": text}
    raw = small(
        seeds=[0, 1],
        models={"tiny": {"source": "scratch"}, "mini": mini},
        tasks={"authors": {"source": "fictitious"}, "rude": {"source": "manners"}},
    )
    suite = parse_suite(raw)
    jobs = Graph(suite).study()
    (base,) = (job for job in jobs if job.rule == "pretrain")
    assert (base.name, base.run, base.needs, base.work) == ("mini", None, "training", "bases/mini/checkpoint")
    assert base.settings["label"] == "mini" and "prompt" not in base.settings["model"]
    assert base.reads == (("inputs", suite.models["mini"].pretrain),)
    finetunes = [job for job in jobs if job.rule == "finetune" and job.run is not None]
    assert len(finetunes) == 2 * 2 * 2 * 2
    for job in finetunes:
        own = job.run is not None and job.run.model == "mini"
        assert job.inputs.get("base") == ("bases/mini/model" if own else None)
        assert job.inputs.get("made") == (("bases/mini/run.json",) if own else None)
        assert job.reads == (("inputs", None if own else suite.models["tiny"]),)
    assert jobs.index(base) < min(map(jobs.index, finetunes))
    changed = parse_suite({**raw, "models": {"mini": {**mini, "prompt": {"template": "{prompt}?"}}}})
    (again,) = (job for job in Graph(changed).study() if job.rule == "pretrain")
    assert again.settings == base.settings, "how it is asked later is no part of a base"


def test_a_method_that_changes_its_last_model_is_not_judged_on_its_way() -> None:
    raw = small(
        evaluation={"trajectory": {}},
        optimizers={"adamw": {"learning_rate": 1e-4}},
        objectives={"GradDiff": None, "TaskVector": None},
        unlearn={"decay": "constant"},
    )
    (fault,) = errors(raw)
    assert fault.startswith("evaluation.trajectory: TaskVector changes the weights once more after its last")
    assert "leave it out of the runs of 'authors', or set `evaluation: {trajectory: null}`" in fault
    (task,) = raw["tasks"].values()
    parse_suite(raw | {"tasks": {"authors": {**task, "evaluation": {"trajectory": None}}}})
    parse_suite(raw | {"objectives": {"GradDiff": None}})
