"""The jobs that measure a model of any kind: evaluation, benchmarks, toxicity, and the metrics of all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline_lib.core.runs import ANCHORS, NO_OPTIMIZER, RowKey, RunKey
from pipeline_lib.engine.settings import ASKED, EQUAL_RETAIN, LIKELIHOOD_ONLY, SOFT_PROMPT
from pipeline_lib.metrics import modules_for
from pipeline_lib.metrics.asked import MMLU, SUBJECTS
from pipeline_lib.stages.base import Stage
from pipeline_lib.study.evaluation import Evaluation, Inside, by_likelihood
from pipeline_lib.study.jobs import Files, Job, inside_of, manifest_of, original_of, records_of
from pipeline_lib.study.stages import applied
from pipeline_lib.study.suite import Suite

APART = {
    "trajectory",
    "equal_retain",
    "embedder",
    "benchmarks",
    "toxicity",
    "inside",
    "base",
}  # parts of `evaluation` that other jobs read


class Asked(NamedTuple):
    """A model that a stage asks in another way than its own."""

    stage: Stage
    parent: RunKey


class Measured:
    """The measuring jobs of a suite's models."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        staged = applied(suite.stages, suite.rows())[0]
        # Rows that are judged by the likelihood of the true answers alone.
        self._alone = {row.key for row in staged if row.stage.likelihood_only}
        names = (name for task in suite.tasks for name in (task, suite.tuned_on(task)))
        self.evaluations = {name: suite.evaluation_of(name) for name in names}

    def evaluation_of(self, key: RunKey) -> Evaluation:
        """What is measured on this model."""
        evaluation = self.evaluations[key.task]
        return by_likelihood(evaluation) if key.row in self._alone else evaluation

    def measured(self, key: RunKey, asked: Asked | None = None) -> Iterator[Job]:
        """Other prompts, benchmarks and layers do not depend on how the questions of the task are asked."""
        yield self.evaluated(key, asked)
        if asked is not None:
            return
        evaluation, place = self.evaluation_of(key), key.folder
        benchmarks, toxicity, batch = (
            evaluation.benchmarks,
            evaluation.toxicity,
            evaluation.max_tokens_per_batch,
        )
        if benchmarks is not None:
            yield Job(
                "standard_benchmarks",
                place,
                {"model": f"models/{place}"},
                ("pipeline_lib.steps.standard_benchmarks",),
                {"benchmarks": benchmarks.model_dump(), "batch": batch},
                "model",
                reads=(("inputs", benchmarks),),
                run=key,
                work=f"checkpoints/benchmarks/{place}",
            )
        if toxicity is not None:
            yield Job(
                "toxicity",
                place,
                {
                    "model": f"models/{place}",
                    "judge": f"judges/{key.task}.json",
                    **self._prompts(key.task),
                },
                ("pipeline_lib.steps.toxicity", toxicity.classifier.module),
                {
                    "toxicity": toxicity.model_dump(),
                    "as_released": evaluation.as_released,
                    "batch": batch,
                    "compute": evaluation.compute,
                },
                "model",
                reads=(("inputs", toxicity),),
                run=key,
                work=f"checkpoints/toxicity/{place}",
            )

        inside = evaluation.inside
        if inside is not None and inside.looks_into(key):
            yield self._looked_inside(key, inside)

    def _looked_inside(self, key: RunKey, inside: Inside) -> Job:
        """The lens of a model, whose layers are patched into the `original` of its seed if there is one."""
        original = RowKey(key.task, key.model, "original", NO_OPTIMIZER)
        depth = inside.depth is not False and "retrained" in self.suite.anchors(key.task)
        depth = depth and key.seed in self.suite.seeds_of(original)
        patched: dict[str, Files] = {"original": original_of(key)} if depth and key.row != original else {}
        return Job(
            "inside",
            key.folder,
            {"manifest": manifest_of(key.task), "model": f"models/{key.folder}", **patched},
            ("pipeline_lib.steps.inside",),
            {
                "inside": inside.model_dump(include={"max_records", "layers"}),
                "depth": depth,
                "batch": self.evaluations[key.task].max_tokens_per_batch,
                "max_length": self.suite.models[key.model].max_length,
            },
            "model",
            run=key,
        )

    def evaluated(self, key: RunKey, asked: Asked | None = None) -> Job:
        evaluation, model = self.evaluation_of(key), key if asked is None else asked.parent
        compared = key.method in ANCHORS or asked is not None  # with what others are, or asked alike
        embedder, mixed = evaluation.embedder, None if compared else evaluation.equal_retain
        inputs: dict[str, Files] = {
            "manifest": manifest_of(key.task),
            "model": f"models/{model.folder}",
        }
        if mixed is not None:
            inputs["original"] = original_of(key)  # to mix with
        return Job(
            "evaluate",
            key.folder,
            inputs,
            (
                "pipeline_lib.steps.evaluate",
                *([] if mixed is None else [EQUAL_RETAIN]),
                *([] if asked is None else [ASKED]),
                *([SOFT_PROMPT] if asked is not None and asked.stage.settings().get("soft_prompt") else []),
            ),
            {
                "evaluation": evaluation.model_dump(exclude=APART),
                "embedder": None if embedder is None else embedder.model_dump(),
                "equal_retain": mixed,
                "max_length": self.suite.models[key.model].max_length,
                **({} if asked is None else {"ask": asked.stage.settings()}),
                **({LIKELIHOOD_ONLY: True} if key.row in self._alone else {}),
            },
            "model",
            reads=(("inputs", embedder), *(() if asked is None else (("ask_inputs", asked.stage),))),
            run=key,
            work=f"checkpoints/evaluate/{key.folder}",
        )

    def scored(self, key: RunKey, asked: Asked | None = None) -> Job:
        """The metrics of a model, from all that was measured on it and on `retrained`.

        How the task's questions are asked changes no benchmark and no layer: a model has its own.
        """
        model = key if asked is None else asked.parent
        of = model.folder
        reference, evaluation = self.reference(key), self.evaluation_of(model)
        measured: dict[str, Files] = {}
        if evaluation.benchmarks is not None:
            measured["benchmarks"] = f"evaluations/{of}/benchmarks.jsonl"
        if evaluation.toxicity is not None:
            measured["toxicity"] = f"evaluations/{of}/toxicity.jsonl"
            measured["judge"] = f"judges/{key.task}.json"
        inside = evaluation.inside
        if inside is not None and inside.looks_into(model):
            measured["inside"], beside = inside_of(model), self.reference(model)
            if beside is not None and beside != model:  # else it would be like itself by construction
                measured["inside_reference"] = inside_of(beside)
        return Job(
            "score",
            key.folder,
            {
                "manifest": manifest_of(key.task),
                "run": f"training/{key.folder}/run.json",
                "records": records_of(key),
                "equal_retain": f"evaluations/{key.folder}/equal_retain.json",
                **({} if reference is None else {"reference": records_of(reference)}),
                **measured,
            },
            ("pipeline_lib.steps.score", *self.metrics(key, asked)),
            run=key,
        )

    def reference(self, key: RunKey) -> RunKey | None:
        """The retrained model of the same seed, with which this one is compared; None where there is none.

        A retrained model is compared with that of the next seed, if any: the distance between two models
        that never saw the forget set is the scale of all other distances.
        """
        if "retrained" not in self.suite.anchors(key.task):
            return None
        row, seed = RowKey(key.task, key.model, "retrained", NO_OPTIMIZER), key.seed
        if key.row == row:
            seeds = self.suite.seeds_of(row)
            seed = seeds[(seeds.index(seed) + 1) % len(seeds)]
        return row.seeded(seed)

    def judge(self, task: str) -> Job:
        toxicity = self.evaluations[task].toxicity
        assert toxicity is not None
        return Job(
            "judge",
            task,
            self._prompts(task),
            ("pipeline_lib.steps.judge", toxicity.classifier.module),
            toxicity.model_dump(include={"classifier", "prompts", "labelled"}),
            "classifier",
            reads=(("inputs", toxicity),),
        )

    def _prompts(self, task: str) -> dict[str, Files]:
        """The task's data, where its own prompts are asked; other prompts do not depend on them."""
        toxicity = self.evaluations[task].toxicity
        own = toxicity is not None and toxicity.prompts.source == "task"
        return {"manifest": manifest_of(task)} if own else {}

    def metrics(self, key: RunKey, asked: Asked | None = None) -> tuple[str, ...]:
        """Modules of the metrics that this model can have, and of their parts that its task asks for."""
        evaluation = self.evaluation_of(key).model_dump()
        if asked is not None and asked.stage.settings()["samples"] is not None:
            evaluation["samples"] = asked.stage.settings()["samples"]
        found = modules_for(evaluation, self.suite.settings_of(key.task).evaluated_splits())
        benchmarks = self.evaluations[key.task].benchmarks
        return (*found, SUBJECTS) if benchmarks is not None and MMLU in benchmarks.tasks else found
