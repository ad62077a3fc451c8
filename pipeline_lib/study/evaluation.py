"""What is measured on every model, with how many records, and what of it a task's splits do not allow."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Block,
    Count,
    CountOrAll,
    CountOrZero,
    Fault,
    Faults,
    Fraction,
    Name,
    PathText,
    Positive,
    Revision,
    Switch,
    UpToOne,
    suggestion,
    tag,
)
from pipeline_lib.core.runs import MATCHED, RunKey
from pipeline_lib.data.toxicity_prompts import Prompts
from pipeline_lib.engine.classifiers import Classifier
from pipeline_lib.models.encoder_settings import EncoderSettings
from pipeline_lib.tasks.base import HOLDOUT, TaskSettings

# The shipped benchmarks. A test keeps this list equal to the one in benchmarks/.
BenchmarkName = Literal[
    "arc_challenge",
    "arc_easy",
    "boolq",
    "boolq_closed_book",
    "hellaswag",
    "mmlu",
    "openbookqa",
    "piqa",
    "truthfulqa_mc1",
    "truthfulqa_mc2",
    "wikitext",
    "winogrande",
]


class Samples(Block):
    """Several sampled answers to each question, for probabilistic evaluation: what leaks occasionally?"""

    n: Annotated[Count, Field(ge=2)] = 10
    temperature: Positive = 1.0
    top_p: UpToOne = 1.0
    splits: list[Name] = Field(["forget"], min_length=1)


class Toxicity(Block):
    """The RealToxicityPrompts protocol (Gehman et al. 2020): several short samples a prompt, classified."""

    classifier: Classifier
    prompts: Prompts
    labelled: PathText | None = Field(
        None,
        description="File of rows {text, label 0 or 1} on which the classifier is tested before it "
        "judges. Default: the labelled texts that come with the prompts, if any. `$VARIABLES` are expanded",
    )
    n_prompts: Count = Field(100, description="At most this many, spread evenly over the file or split")
    samples: Count = 25
    max_new_tokens: Count = 20
    top_p: UpToOne = 0.9
    temperature: Positive = 1.0
    chat: Switch | None = Field(
        None,
        description="Ask in the model's prompt format instead of continuing the text. Default: only the "
        "task's own prompts, which are always asked so",
    )

    @model_validator(mode="after")
    def _asked_as_learned(self) -> Toxicity:
        if self.prompts.source == "task" and self.chat is False:
            raise Faults([("chat", "found false; the task's own prompts are asked in the model's format")])
        return self

    def judge_fault(self, source: str) -> str | None:
        """Why the classifier cannot judge these prompts, where they come from a task of this `source`.

        The job finds other blind spots of a classifier, from the prompts themselves.
        """
        kind = self.classifier.kind
        if kind == "rude_words" and (self.prompts.source != "task" or source != "manners"):
            return "found 'rude_words', which can judge a `manners` task's own prompts and nothing else"
        if self.prompts.source == "task" and (kind, source) == ("profanity_check", "detox"):
            return (
                "found 'profanity_check', which is blind to harm without bad words: it cannot tell this "
                "task's unsafe answers from safe ones (docs/toxicity.md). Leave `toxicity` out for this task"
            )
        return None


class Benchmarks(Block):
    """Standard benchmarks of general ability."""

    tasks: list[BenchmarkName] = Field([], description="Benchmarks of docs/benchmarks.md")
    lm_eval: dict[Name, Revision | None] = Field(
        {},
        description="Further tasks of lm-evaluation-harness -> commit of the task's data set on the hub; "
        "null: local files in the folder lm_eval/TASK (docs/benchmarks.md)",
    )
    limit: Count | None = Field(None, description="At most this many questions a task, spread evenly")
    mmlu_shots: Annotated[CountOrZero, Field(le=5)] = 5
    folder: PathText | None = Field(
        None, description="Local files instead of the hub; `$VARIABLES` are expanded"
    )

    @model_validator(mode="after")
    def _asks_something_once(self) -> Benchmarks:
        if not self.tasks and not self.lm_eval:
            raise Faults([("tasks", "found an empty list; name a benchmark")])
        twice = [name for name in self.lm_eval if name in get_args(BenchmarkName)]
        if twice:
            raise Faults([("lm_eval", f"found {twice[0]!r}, which has its place in `tasks`")])
        return self


class Trajectory(Block):
    """Runs judged on their way by likelihood alone, so that optimisers can be compared at one utility."""

    points: Annotated[Count, Field(ge=2)] = Field(
        8, description="Steps of each run that are judged, evenly spread after the warm-up"
    )
    utility: Fraction = Field(
        0.9,
        description="Joint utility of likelihoods, as a share of `original`'s, at which runs are compared",
    )
    matched: Switch = Field(
        False,
        description="Also make the model at that utility: the row `METHOD+OPTIMIZER/matched`, evaluated like "
        "any other, which stages can start from",
    )


class Inside(Block):
    """What the layers of a model still know of the forget answers: logit lens and Unlearning Depth Score."""

    max_records: Count = Field(40, description="At most this many forget records, spread over their groups")
    layers: CountOrAll = Field("all", description="Look into all layers, or into every k-th and the last")
    depth: Switch | None = Field(
        None,
        description="Put the states of each layer into `original` too, for the depth score. Default: where "
        "the task has a `retrained`, which it needs",
    )
    stages: Switch = Field(
        False, description="Look into the models that stages and attacks make, too, not only before them"
    )

    def looks_into(self, key: RunKey) -> bool:
        """Whether the model of this run is looked into."""
        return self.stages or key.after in ("", MATCHED)


class Evaluation(Block):
    """What is measured, and with how many records."""

    max_new_tokens: Count = 64
    max_records: dict[Name, Count] = Field(
        {}, description="Split -> at most this many of its records, spread over its groups"
    )
    max_tokens_per_batch: Count = 4096
    compute: Literal["fp32", "bf16"] = "fp32"
    equal_retain: Fraction | None = Field(
        None,
        description="Compare also at equal retention: each unlearned model is moved along the line from the "
        "original until its probability of the retain answers is this share below the original's",
    )
    trajectory: Trajectory | None = Field(
        None,
        description="Judge each run on its way too. Needs `unlearn.decay: constant`, where the model "
        "after a step is what a run of so many steps with the same warm-up steps would leave",
        exclude_if=lambda found: found is None,
    )
    grad_norm: Switch = Field(
        False, description="Membership inference by the gradient's norm too: one backward pass a record"
    )
    samples: Samples | None = None
    embedder: EncoderSettings | None = Field(
        None, description="For answer accuracy by similarity of sentences"
    )
    as_released: Switch = Field(
        False, description="The paper's own protocol as well: paraphrased questions, its forget quality"
    )
    toxicity: Toxicity | None = None
    benchmarks: Benchmarks | None = None
    inside: Inside | None = Field(
        None,
        description="Look into the layers of every model for the forget answers (docs/evaluation.md)",
        exclude_if=lambda found: found is None,
    )
    base: Switch = Field(
        True,
        description="Evaluate the pretrained model before any fine-tuning too, as the row `base`; a model "
        "that is made from scratch without `pretrain` has none",
    )


def split_faults(
    evaluation: Evaluation, given: Collection[str], where: str, known: Collection[str], nobody: str
) -> Iterator[Fault]:
    """Faults of the settings in `given`. `known`: splits that exist; `nobody`: who lacks the others."""
    answered = set(known) - {HOLDOUT}
    if "max_records" in given:
        for name in evaluation.max_records:
            if name not in known:
                yield (
                    f"{where}.max_records.{name}",
                    f"{nobody} evaluates such a split; {suggestion(name, known)}",
                )
    if "samples" in given and evaluation.samples is not None:
        for i, name in enumerate(evaluation.samples.splits):
            if name not in answered:
                yield (
                    f"{where}.samples.splits.{i}",
                    f"{nobody} has such a split with answers; {suggestion(name, answered)}",
                )
    if "grad_norm" in given and evaluation.grad_norm and HOLDOUT not in known:
        yield (
            f"{where}.grad_norm",
            f"membership inference needs records that no model learns, and {nobody} holds any out; set "
            "`holdout_authors` (or `holdout`) of a task",
        )


def fitting(evaluation: Evaluation, known: Collection[str]) -> Evaluation:
    """The evaluation without the parts that concern splits of other tasks."""
    samples = evaluation.samples
    if samples is not None:
        splits = [name for name in samples.splits if name in set(known) - {HOLDOUT}]
        samples = samples.model_copy(update={"splits": splits}) if splits else None
    return evaluation.model_copy(
        update={
            "max_records": {name: n for name, n in evaluation.max_records.items() if name in known},
            "samples": samples,
            "grad_norm": evaluation.grad_norm and HOLDOUT in known,
        }
    )


def by_likelihood(evaluation: Evaluation) -> Evaluation:
    """What of the evaluation reads true answers, and has the model write none."""
    nothing: dict[str, None] = {"samples": None, "embedder": None, "toxicity": None, "equal_retain": None}
    return evaluation.model_copy(update={**nothing, "as_released": False, "grad_norm": False})


def unfit_faults(evaluation: Evaluation, settings: TaskSettings, task: str) -> Iterator[Fault]:
    """Blocks that a task is not fit for: its own prompts, a judge of them, a depth score."""

    def place(block: str) -> str:
        return f"tasks.{task}.evaluation" if block in settings.evaluation else "evaluation"

    toxicity, asked = evaluation.toxicity, set(settings.evaluated_splits()) - {HOLDOUT}
    if toxicity is not None:
        prompts, where = toxicity.prompts, f"{place('toxicity')}.toxicity"
        if prompts.source == "task" and prompts.split not in asked:
            told = f"the task {task!r} has no split {prompts.split!r}; {suggestion(prompts.split, asked)}"
            yield f"{where}.prompts.split", told
        if fault := toxicity.judge_fault(tag(type(settings))):
            yield f"{where}.classifier.kind", fault
    if evaluation.inside is not None and evaluation.inside.depth and not settings.has_retrained():
        yield (
            f"{place('inside')}.inside.depth",
            f"the task {task!r} has no `retrained`, whose layers say where the answers are; leave it out, "
            "and the logit lens alone is read",
        )
