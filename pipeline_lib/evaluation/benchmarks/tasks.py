"""The benchmarks by name: where each is found, how its rows are read, asked and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks import documents, prompts
from pipeline_lib.evaluation.benchmarks.documents import Document, Row
from pipeline_lib.evaluation.benchmarks.prompts import Choices, Passage

Reader = Callable[[int, str, Row], Document]


@dataclass(frozen=True)
class Task:
    """`local`: names of the file under the data folder, the first that exists is read. `hub`: data set,
    commit, file. `shots`: the file names of example questions, local and on the hub; None: it has none.

    `metric`: "choice" (is the likeliest choice right?), "mass" (probability of the right choices together)
    or "perplexity".
    """

    local: tuple[str, ...]
    hub: tuple[str, str, str]
    read_local: Reader
    read_hub: Reader
    ask: Callable[[Document, Sequence[Document]], Choices | Passage]
    metric: str = "choice"
    shots: tuple[str, str] | None = None


def _arc(name: str, folder: str) -> Task:
    return Task(
        (f"commonsense/{name}_test.jsonl",),
        (
            "allenai/ai2_arc",
            "210d026faf9955653af8916fad021475a3f00453",
            f"{folder}/test-00000-of-00001.parquet",
        ),
        documents.simple,
        documents.hub_arc,
        prompts.question_answer,
    )


def _truthfulqa(metric: str) -> Task:
    return Task(
        ("truthfulqa/mc.jsonl",),
        (
            "truthfulqa/truthful_qa",
            "741b8276f2d1982aa3d5b832d3ee81ed3b896490",
            "multiple_choice/validation-00000-of-00001.parquet",
        ),
        documents.simple_truthfulqa,
        documents.hub_truthfulqa,
        prompts.truthfulqa,
        metric,
    )


def _boolq(name: str) -> Task:
    return Task(
        (f"commonsense/{name}.jsonl",),
        (
            "aps/super_glue",
            "3de24cf8022e94f4ee4b9d55a6f539891524d646",
            "boolq/validation-00000-of-00001.parquet",
        ),
        documents.simple_boolq,
        documents.hub_boolq,
        prompts.boolq,
    )


TASKS: dict[str, Task] = {
    "arc_challenge": _arc("arc_challenge", "ARC-Challenge"),
    "arc_easy": _arc("arc_easy", "ARC-Easy"),
    "boolq": _boolq("boolq_passage_validation"),
    # the same questions without the passage that answers them: another task, about what the model knows
    "boolq_closed_book": _boolq("boolq_validation"),
    "hellaswag": Task(
        ("commonsense/hellaswag_validation.jsonl", "commonsense/hellaswag_validation_2000.jsonl"),
        (
            "Rowan/hellaswag",
            "218ec52e09a7e7462a5400043bb9a69a41d06b76",
            "data/validation-00000-of-00001.parquet",
        ),
        documents.simple_hellaswag,
        documents.hub_hellaswag,
        prompts.hellaswag,
    ),
    "mmlu": Task(
        ("mmlu/test.jsonl",),
        ("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe", "all/test-00000-of-00001.parquet"),
        documents.simple,
        documents.simple,
        prompts.mmlu,
        shots=("mmlu/dev.jsonl", "all/dev-00000-of-00001.parquet"),
    ),
    "openbookqa": Task(
        ("commonsense/openbookqa_test.jsonl",),
        (
            "allenai/openbookqa",
            "388097ea7776314e93a529163e0fea805b8a6454",
            "main/test-00000-of-00001.parquet",
        ),
        documents.simple,
        documents.hub_arc,
        prompts.openbookqa,
    ),
    "piqa": Task(
        ("commonsense/piqa_validation.jsonl",),
        ("baber/piqa", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1", "piqa_validation.parquet"),
        documents.simple,
        documents.hub_piqa,
        prompts.question_answer,
    ),
    "truthfulqa_mc1": _truthfulqa("choice"),
    "truthfulqa_mc2": _truthfulqa("mass"),
    "wikitext": Task(
        ("wikitext2/test_raw.txt",),
        (
            "Salesforce/wikitext",
            "b08601e04326c79dfdd32d625aee71d232d685c3",
            "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        ),
        documents.page,
        documents.page,
        prompts.wikitext,
        "perplexity",
    ),
    "winogrande": Task(
        ("commonsense/winogrande_validation.jsonl",),
        (
            "allenai/winogrande",
            "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
            "winogrande_xl/validation-00000-of-00001.parquet",
        ),
        documents.simple,
        documents.hub_winogrande,
        prompts.winogrande,
    ),
}


def benchmark(name: str) -> Task:
    """The task of this name; an unknown one is an error that names the nearest."""
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1, cutoff=0.0)
        raise UserError(
            f"benchmark {name!r} is not known; did you mean {near[0]!r}? There are: {', '.join(TASKS)}"
        )
    return TASKS[name]
