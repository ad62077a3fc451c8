"""The graph of a study: every job that its suite implies, in an order in which they can run.

A pure function of the suite. The workflow's rules, the plan, the status, the tracker and the tables read it.
The graph is fixed even where a choice depends on results: a `choose` job names one of the declared trials,
and trials of a later round read the ranges in which they lie.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any

from pipeline_lib.core.families import Method
from pipeline_lib.core.runs import BASE, FINE_TUNED, NO_OPTIMIZER, RowKey, RunKey
from pipeline_lib.metrics.definition import FRONT_GAP
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.study import dump_suite
from pipeline_lib.study.evaluation import Trajectory
from pipeline_lib.study.jobs import Files, Job, base_of, manifest_of, original_of, records_of, with_runs
from pipeline_lib.study.measured import Asked, Measured
from pipeline_lib.study.runs import Run
from pipeline_lib.study.shown import Shown
from pipeline_lib.study.stages import StagedRow
from pipeline_lib.study.suite import Suite
from pipeline_lib.study.table import models_of, run_labels, tuned_index
from pipeline_lib.study.tune import Select, Tune

TRAJECTORY = "pipeline_lib.steps.trajectory"  # imported by this name, where runs are judged on their way


class Graph:
    """The jobs of a suite by rule and name. `models`: every model of the study, anchors first."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.tuned = tuned_index(suite)
        self.models: dict[RunKey, Run | StagedRow | None] = models_of(suite)
        self._measured = Measured(suite)
        self.shown = Shown(suite, self.models, self._measured)

    @cached_property
    def jobs(self) -> dict[tuple[str, str], Job]:
        """Every job up to the report, and those of the paper's items, by (rule, name)."""
        return {
            (job.rule, job.name): job for job in (*map(with_runs, self._jobs()), *self.shown.of_the_paper())
        }

    def study(self) -> list[Job]:
        """The jobs up to the report, in the order in which they can run."""
        return [job for job in self.jobs.values() if not job.rule.startswith("paper_")]

    def _jobs(self) -> Iterator[Job]:
        runs = json.dumps(run_labels(self.models), indent=2)
        described = {"suite": dump_suite(self.suite), "runs": runs}
        yield Job("describe_suite", "", {}, ("pipeline_lib.steps.describe_suite",), described)
        for name in dict.fromkeys(
            (*self.suite.tasks, *(self.suite.tuned_on(row.task) for row in self.tuned))
        ):
            task = self.suite.settings_of(name)
            yield Job(
                "prepare_data",
                name,
                {},
                ("pipeline_lib.steps.prepare_data", type(task).__module__),
                {"task": task.data_settings()},
                reads=(("inputs", task),),
            )
        for name in self.suite.tasks:
            if self._measured.evaluations[name].toxicity is not None:
                yield self._measured.judge(name)
        yield from self._bases()
        yield from self._tuning()
        anchors = [key for key in self.models if key.row.anchor]  # which are listed first
        for key, made in self.models.items():
            if isinstance(made, Run) and made.matched:
                yield self._match(key._replace(after=""))
            yield self._model(key, made)
            yield from self._measured.measured(key, self._asked(key, made))
            if not key.row.anchor:
                yield self._measured.scored(key, self._asked(key, made))
            elif key == anchors[-1]:
                yield from map(self._measured.scored, anchors)
        yield from self.shown.jobs()

    # --- models ---------------------------------------------------------------------------------------

    def _model(self, key: RunKey, made: Run | StagedRow | None) -> Job:
        if isinstance(made, StagedRow):
            return self._staged(key, made)
        if made is not None:
            return self._unlearned(key, made)
        return self._base(key) if key.method == BASE else self._finetuned(key)

    def _bases(self) -> Iterator[Job]:
        for label, model in self.suite.models.items():
            if isinstance(model, ScratchModel) and model.pretrain is not None:
                yield Job(
                    "pretrain",
                    label,
                    {},
                    ("pipeline_lib.steps.pretrain",),
                    # What is done with the base afterwards is no part of it.
                    {"label": label, "model": model.model_dump(exclude={"prompt", "base"})},
                    "training",
                    reads=(("inputs", model.pretrain),),
                    work=f"bases/{label}/checkpoint",
                )

    def _pretrained(self, key: RunKey) -> dict[str, Files]:
        """The input by which a job reads the weights that the study pretrained, where it did."""
        model = self.suite.models[key.model]
        return (
            {"base": base_of(key.model)}
            if isinstance(model, ScratchModel) and model.pretrain is not None
            else {}
        )

    def _base(self, key: RunKey) -> Job:
        model, inputs = self.suite.models[key.model], self._pretrained(key)
        return Job(
            "base",
            key.folder,
            inputs,
            ("pipeline_lib.steps.base",),
            {"model": model.model_dump(exclude={"shape", "base"})},
            "model",
            reads=(("inputs", None if inputs else model),),
            run=key,
        )

    def _finetuned(self, key: RunKey) -> Job:
        model = self.suite.models[key.model]
        inputs: dict[str, Files] = {"manifest": manifest_of(key.task), **self._pretrained(key)}
        return Job(
            "finetune",
            key.folder,
            inputs,
            ("pipeline_lib.steps.finetune",),
            {
                "model": model.model_dump(exclude={"shape"}),
                "finetune": self.suite.finetune_of(key.task).model_dump(),
            },
            "training",
            reads=(("inputs", None if "base" in inputs else model),),
            run=key,
            work=f"checkpoints/{key.folder}",
        )

    def _unlearned(self, key: RunKey, run: Run) -> Job:
        inputs: dict[str, Files] = {"manifest": manifest_of(key.task), "parent": original_of(key)}
        row = self.tuned.get(key.row._replace(after=""))
        tried, ranges = run.methods, dict[str, Collection[str]]()
        if run.matched:
            inputs["matched"] = f"matched/{key._replace(after='').folder}.json"
        if row is not None:
            inputs["chosen"] = f"tuning/{key.row.folder}/chosen.json"
            tried = [method for t in row.trials.values() for method in (t.objective, t.optimizer)]
            ranges = {part: tuned.keys() for part, tuned in row.ranges.items()}
        return Job(
            "unlearn",
            key.folder,
            inputs,
            (
                "pipeline_lib.steps.unlearn",
                *code_of(*tried),
                *([TRAJECTORY] if self._judged(key, run) else ()),
            ),
            {
                "objective": run.objective.model_dump(exclude=set(ranges.get("objective", ()))),
                "optimizer": {"kind": NO_OPTIMIZER}
                if run.optimizer_settings is None
                else run.optimizer_settings.model_dump(exclude=set(ranges.get("optimizer", ()))),
                "unlearn": run.unlearn.model_dump(),
                "max_length": self.suite.models[key.model].max_length,
                **self._judged(key, run),
            },
            "training",
            run=key,
            work=f"checkpoints/{key.folder}",
        )

    def _judged(self, key: RunKey, run: Run) -> dict[str, Any]:
        """The setting by which a run is judged on its way; none where that is off or there is no way."""
        path = self.suite.judged(run)
        return self._trajectory(key.task, None if path is None else path.points)

    def _trajectory(self, task: str, points: int | None) -> dict[str, Any]:
        if points is None:
            return {}
        scoring = self._measured.evaluations[task].model_dump(include={"max_records", "max_tokens_per_batch"})
        return {"trajectory": {"points": points, **scoring}}

    def _match(self, key: RunKey) -> Job:
        """Which model of a run's path is that of its front."""
        trajectory = self._measured.evaluations[key.task].trajectory
        assert trajectory is not None
        original = RowKey(key.task, key.model, "original", NO_OPTIMIZER)
        retrained = original._replace(method="retrained")
        seeds = self.suite.seeds_of(original)
        return Job(
            "match",
            key.folder,
            {
                "manifest": manifest_of(key.task),
                "steps": f"training/{key.folder}/steps.jsonl",
                "run": f"training/{key.folder}/run.json",
                "originals": tuple(records_of(original.seeded(seed)) for seed in seeds),
                "retrained": tuple(
                    records_of(retrained.seeded(seed)) for seed in self.suite.seeds_of(retrained)
                ),
            },
            ("pipeline_lib.steps.match",),
            {"seeds": seeds, "level": trajectory.utility},
            run=key,
        )

    def _asked(self, key: RunKey, made: Run | StagedRow | None) -> Asked | None:
        """Of a row whose model is its parent's, asked in another way."""
        if not isinstance(made, StagedRow) or not made.stage.asks:
            return None
        return Asked(made.stage, self.suite.beside(made.parents[0], key.seed))

    def _staged(self, key: RunKey, made: StagedRow) -> Job:
        stage, judged = made.stage, self._trajectory(key.task, made.stage.judged())
        if (asked := self._asked(key, made)) is not None:
            return Job(
                "ask",
                key.folder,
                {"parent": f"training/{asked.parent.folder}/run.json"},
                ("pipeline_lib.steps.ask",),
                {"stage": stage.settings()},
                run=key,
            )
        return Job(
            "stage",
            key.folder,
            {
                "manifest": manifest_of(stage.data_of(key.task)),
                "parents": tuple(
                    f"models/{self.suite.beside(parent, key.seed).folder}" for parent in made.parents
                ),
                **({"own": manifest_of(key.task)} if judged else {}),
            },
            ("pipeline_lib.steps.stage", *stage.modules(), *([TRAJECTORY] if judged else ())),
            {
                "stage": stage.settings(),
                "parents": list(map(str, made.parents)),  # Snakemake does not notice another order of inputs
                "max_length": self.suite.models[key.model].max_length,
                **judged,
            },
            "model" if stage.training() is None else "training",
            run=key,
            work=f"checkpoints/{key.folder}",
        )

    # --- tuning ---------------------------------------------------------------------------------------

    def _tuning(self) -> Iterator[Job]:
        """Trials and choices, and the models that only tuning starts from."""
        tune = self.suite.tune
        if tune is None:
            return
        bases: dict[RunKey, None] = {}  # several rows share them
        for row in self.tuned:
            bases |= dict.fromkeys(key for keys in self._starts(row, tune).values() for key in keys)
        for base in bases:
            if base not in self.models:
                yield self._finetuned(base)
                yield self._measured.evaluated(base)
        for number in range(1, tune.rounds + 1):
            yield from self._round(number, tune)

    def _round(self, number: int, tune: Tune) -> Iterator[Job]:
        """The ranges of this round, if it is not the first, its trials, and the choice from all so far."""
        if number > 1:
            yield self._widened(number)
        for row, found in self.tuned.items():
            numbers = range((number - 1) * tune.trials + 1, number * tune.trials + 1)
            yield from (
                self._trial(row.seeded(seed), trial, number, tune) for trial in numbers for seed in tune.seeds
            )
            so_far = [
                f"tuning/{row.folder}/trial{trial}/seed{seed}.json"
                for trial in range(1, numbers.stop)
                for seed in tune.seeds
            ]
            later = tuple(f"tuning/round{r}.json" for r in range(2, number + 1))
            anchors = {method: tuple(map(records_of, of)) for method, of in self._starts(row, tune).items()}
            yield Job(
                *(
                    ("choose", row.folder)
                    if number == tune.rounds
                    else ("choose_so_far", _choice(row, number))
                ),
                {
                    "manifest": manifest_of(self.suite.tuned_on(row.task)),
                    "trials": tuple(so_far),
                    **anchors,
                    **({"widened": later} if later else {}),
                },
                ("pipeline_lib.steps.choose",),
                {
                    "seeds": tune.seeds,
                    "select": self._rule(row, tune),
                    "forget_draw": tune.forget_draw,
                    "ranges": found.ranges,
                    "row": row.folder,
                },
                run=row.seeded(tune.seeds[0]),
            )

    def _widened(self, number: int) -> Job:
        inputs: dict[str, Files] = {
            "choices": tuple(f"tuning/{_choice(row, number - 1)}.json" for row in self.tuned)
        }
        if number > 2:
            inputs["before"] = f"tuning/round{number - 1}.json"
        rows = {row.folder: {"ranges": of.ranges, "limits": of.limits} for row, of in self.tuned.items()}
        return Job("widen", str(number), inputs, ("pipeline_lib.steps.widen",), {"rows": rows}, "study")

    def _rule(self, row: RowKey, tune: Tune) -> dict[str, Any]:
        """The rule of selection as the job of the choice reads it."""
        select, path = self._select(row, tune), self._path(row)
        at_level = {"level": path.utility} if path is not None and select.forget == FRONT_GAP else {}
        return {**select.model_dump(), **at_level}

    def _select(self, row: RowKey, tune: Tune) -> Select:
        on_its_way = self._path(row) is not None
        return tune.select.resolved(self.suite.settings_of(row.task).has_retrained(), on_its_way)

    def _path(self, row: RowKey) -> Trajectory | None:
        """How the trials of a row are judged on their way, which is how its runs are."""
        return self.suite.path_of(row.task, self.tuned[row].trials[1].optimizer)

    def _starts(self, row: RowKey, tune: Tune) -> dict[str, list[RunKey]]:
        """The models that a row's trials start from and are compared with, one a tuning seed."""
        task, by_gap = self.suite.tuned_on(row.task), self._select(row, tune).forget != "probability"
        return {
            method: [RowKey(task, row.model, method, NO_OPTIMIZER).seeded(seed) for seed in tune.seeds]
            for method in (FINE_TUNED if by_gap else FINE_TUNED[:1])
        }

    def _trial(self, key: RunKey, number: int, of_round: int, tune: Tune) -> Job:
        """A trial of the first round has its settings; that of a later one has places in ranges to come."""
        row = self.tuned[key.row]
        tried = row.trials.get(number, row.trials[1])
        forgotten = key._replace(task=self.suite.tuned_on(key.task))
        name = f"{key.row.folder}/trial{number}/seed{key.seed}"
        inputs: dict[str, Files] = {"manifest": manifest_of(forgotten.task), "parent": original_of(forgotten)}
        settings: dict[str, Any] = {"tuned": tried.tuned}
        path = self._path(key.row) if "level" in self._rule(key.row, tune) else None
        judged = self._trajectory(forgotten.task, None if path is None else path.points)
        if of_round > 1:
            inputs["ranges"] = f"tuning/round{of_round}.json"
            settings = {"places": row.later[number], "row": key.row.folder}
        return Job(
            "trial",
            name,
            inputs,
            (
                "pipeline_lib.steps.trial",
                *code_of(tried.objective, tried.optimizer),
                *([TRAJECTORY] if judged else ()),
            ),
            {
                **settings,
                **judged,
                "objective": tried.objective.model_dump(),
                "optimizer": tried.optimizer.model_dump(),
                "unlearn": row.unlearn.model_dump(),
                "evaluation": self._measured.evaluations[forgotten.task].model_dump(
                    include={"max_records", "max_tokens_per_batch"}
                ),
                "max_length": self.suite.models[key.model].max_length,
            },
            "training",
            run=key,
            trial=number,
            work=f"checkpoints/tuning/{name}",
        )


def _choice(row: RowKey, number: int) -> str:
    """Place below tuning/ of a row's choice after a round that is not the last."""
    return f"{row.folder}/round{number}"


def code_of(*methods: Method) -> tuple[str, ...]:
    """Modules of these objectives and optimisers."""
    return tuple(dict.fromkeys(module for method in methods for module in method.modules()))
