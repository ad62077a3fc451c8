"""The planner's memory against real peaks: whole jobs of a study, each in a process of its own.

    python -m benchmarks.memory                  every case below; a table of estimate, measured peak, ratio
    python -m benchmarks.memory --json NAME ...   these cases, as JSON (what the test reads)

A case is a job of a small suite: the step that the workflow would run, on a model with random weights (8
layers of 512, vocabulary 16384, 32 million parameters) and generated questions. What is measured is what the
job adds: libraries are imported before, and neither side counts them (`runtime` in the plan).

CPU: pages of the process's own and those of weights that lie in mapped files (which transformers leaves there
until they are written to), read by its parent some hundred times a second, less what it held before the job.
One thread; some seconds a case. Every job takes two steps or more: states come to be in the first.
GPU, where there is one: torch.cuda.max_memory_allocated of the job.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 1e-3  # seconds between two looks at a process,
MAPPED_EVERY = 0.05  # and at its mapped files
CONFIG = {
    "vocab_size": 16384,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
TASK = {"source": "fictitious", "n_authors": 20, "forget_authors": 10, "holdout_authors": 2, "n_facts": 8}
ADAMW = {"adamw": {"learning_rate": 1e-5}}
SOPHIA = {"sophia": {"learning_rate": 1e-5, "update_every": 2}}
SGD = {"sgd": {"learning_rate": 1e-5}}
LORA = {"rank": 8}
# name -> the job's kind, and the blocks of the suite that the case changes
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fine-tuning, AdamW": ("finetune", {}),
    "fine-tuning, batch 32": ("finetune", {"finetune": {"batch_size": 32}}),
    "fine-tuning, bf16 compute": ("finetune", {"finetune": {"compute": "bf16"}}),
    "fine-tuning, batch 32, checkpointing": (
        "finetune",
        {"finetune": {"batch_size": 32, "checkpointing": True}},
    ),
    "fine-tuning, bf16 weights": ("finetune", {"finetune": {"weights": "bf16"}}),
    "fine-tuning, LoRA": ("finetune", {"finetune": {"lora": LORA}}),
    "GradDiff, AdamW": ("unlearn", {}),
    "GradDiff, AdamW, batch 16": ("unlearn", {"unlearn": {"batch_size": 16}}),
    "GradDiff, AdamW, batch 16, checkpointing": (
        "unlearn",
        {"unlearn": {"batch_size": 16, "checkpointing": True}},
    ),
    "GradDiff, AdamW, bf16 compute": ("unlearn", {"unlearn": {"compute": "bf16"}}),
    "GradDiff, AdamW, bf16 weights": ("unlearn", {"unlearn": {"weights": "bf16"}}),
    "GradDiff, AdamW, bf16 weights rounded at random": (
        "unlearn",
        {"unlearn": {"weights": "bf16_stochastic"}},
    ),
    "GradDiff, AdamW, accumulation 4": ("unlearn", {"unlearn": {"accumulation": 4, "epochs": 0.6}}),
    "GradDiff, AdamW, step in the machine's memory": ("unlearn", {"unlearn": {"offload": True}}),
    "GradDiff, SGD": ("unlearn", {"optimizers": SGD}),
    "GradDiff, Sophia": ("unlearn", {"optimizers": SOPHIA}),
    "GradDiff, Sophia, batch 16": ("unlearn", {"optimizers": SOPHIA, "unlearn": {"batch_size": 16}}),
    "GradDiff, LoRA": ("unlearn", {"unlearn": {"lora": LORA}}),
    "GradDiff, LoRA, batch 16": ("unlearn", {"unlearn": {"lora": LORA, "batch_size": 16}}),
    "GradDiff, LoRA, 8-bit base": (
        "unlearn",
        {"model": {"base": {"kind": "int8"}}, "unlearn": {"lora": LORA}},
    ),
    "NPO, AdamW": ("unlearn", {"objectives": {"NPO": None}}),
    "IdkDPO, AdamW": ("unlearn", {"objectives": {"IdkDPO": None}}),
    "KL with a reference model, AdamW": ("unlearn", {"objectives": {"KL": None}}),
    "KL, LoRA": ("unlearn", {"objectives": {"KL": None}, "unlearn": {"lora": LORA}}),
    "evaluation": ("evaluate", {}),
    "evaluation, large batches": ("evaluate", {"evaluation": {"max_tokens_per_batch": 16384}}),
}
METHOD = {"finetune": "original", "evaluate": "original"}


def suite_of(case: str, source: Path) -> dict[str, Any]:
    """The suite that a case belongs to, on the model in `source`."""
    changes = dict(CASES[case][1])
    model = {"source": "folder", "path": str(source), "max_length": 128, **changes.pop("model", {})}
    plain = {"kind": "template", "template": "<user>{prompt}<assistant>", "answer_prefix": ""}
    blocks: dict[str, dict[str, Any]] = {
        "finetune": {"batch_size": 8, "epochs": 0.25},
        "unlearn": {"batch_size": 8, "epochs": 0.25},
        "evaluation": {"max_new_tokens": 16, "max_records": {"forget": 24, "retain": 24, "facts": 4}},
        "resources": {"gpus": int(_gpu())},
    }
    for name, block in blocks.items():
        blocks[name] = {**block, **changes.pop(name, {})}
    return {
        "suite": "memory",
        "seeds": [0],
        "models": {"made": {**model, "prompt": plain}},
        "tasks": {"authors": TASK},
        "objectives": {"GradDiff": {"gamma": 1.0}},
        "optimizers": ADAMW,
        **blocks,
        **changes,
    }


def make_model(folder: Path) -> None:
    """A Llama with random weights, and a tokenizer of the task's own words."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from pipeline_lib.models.scratch import train_tokenizer
    from pipeline_lib.models.settings import ScratchModel
    from pipeline_lib.tasks import task_settings

    records = [record for split in task_settings(TASK).load().splits.values() for record in split]
    texts = [text for record in records for text in (record.prompt, record.answer)]
    tokenizer = train_tokenizer(ScratchModel(source="scratch", vocab_size=4096, max_length=128), texts)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG, **ids), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def estimated(case: str, source: Path) -> dict[str, Any]:
    """What the plan says of the case's job, without libraries: bytes by part, and the phase."""
    from pipeline_lib.operations.plan.jobs import memory_of, planned_jobs
    from pipeline_lib.study import parse_suite

    kind = CASES[case][0]
    suite = parse_suite(suite_of(case, source))
    works = {job.run: work for job, work in planned_jobs(suite) if job.rule == kind and job.run}
    work = next(work for key, work in works.items() if key.method == METHOD.get(kind, key.method))
    assert work is not None
    memory = memory_of(work)
    parts = {name: size for name, size in memory.parts.items() if name != "runtime"}
    return {"phase": memory.phase, "parts": parts, "bytes": sum(parts.values())}


def job_of(case: str, source: Path, place: Path) -> Callable[[], None]:
    """The step of the case, ready to run; what it reads is made first, in processes of their own."""
    from pipeline_lib.steps import evaluate, finetune, unlearn
    from pipeline_lib.steps.job import Job
    from pipeline_lib.steps.prepare_data import prepare_task
    from pipeline_lib.study import parse_suite
    from pipeline_lib.study.table import models_of

    kind = CASES[case][0]
    suite = parse_suite(suite_of(case, source))
    settings = suite.models["made"]
    data = place / "data"
    task = {"source": "fictitious", **TASK}
    in_a_child(lambda: prepare_task(task, data))
    key = next(k for k, run in models_of(suite).items() if (run is None) == (kind != "unlearn"))
    identity = key._asdict()
    inputs: dict[str, Path | list[Path] | None] = {"manifest": data / "manifest.json"}
    parent = place / "original" / "model"

    def trained(who: dict[str, Any], name: str, **given: Any) -> Job:
        outputs = {"model": place / name / "model", "run": place / name / "training" / "run.json"}
        work = place / name / "checkpoint"
        return Job(given, {**inputs, "parent": parent}, outputs, work, {"suite": "memory", **who})

    def make(tuning: dict[str, Any], name: str) -> None:
        model = settings.model_dump(exclude={"shape"})
        who = {**identity, "method": "original", "optimizer": "none"}
        finetune.run(trained(who, name, model=model, finetune=tuning, inputs={}))

    tuning = suite.finetune_of("authors").model_dump()
    if kind == "finetune":
        return lambda: make(tuning, "made")
    in_a_child(lambda: make({**tuning, "epochs": 0.01}, "original"))
    if kind == "evaluate":
        asked = suite.evaluation_of("authors").model_dump(
            exclude={"equal_retain", "embedder", "benchmarks", "toxicity"}
        )
        given = {"evaluation": asked, "embedder": None, "equal_retain": None}
        outputs = {"records": place / "records.jsonl", "equal_retain": place / "equal.json"}
        given["max_length"] = settings.max_length
        job = Job(given, {**inputs, "model": parent}, outputs, place / "work")
        return lambda: evaluate.run(job)
    run = models_of(suite)[key]
    assert run is not None
    blocks = {"objective": run.objective, "optimizer": run.optimizer_settings, "unlearn": run.unlearn}
    given = {name: block.model_dump() for name, block in blocks.items()}
    given["max_length"] = settings.max_length
    return lambda: unlearn.run(trained(identity, "unlearned", **given))


def in_a_child(work: Callable[[], object]) -> int:
    """Run `work` in a fork of this process; bytes of memory that it held at its peak beyond the start's.

    On a GPU those that torch allocated there.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            sys.stdout.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            os.write(writer, json.dumps(_gpu_peak()).encode())
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    first = peak = _anonymous(child)
    mapped, looked = 0, 0.0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        own = _anonymous(child)
        # What is mapped is slow to read, so it is read now and then, and again before it makes a new peak.
        if time.monotonic() - looked > MAPPED_EVERY or own + mapped > peak:
            mapped, looked = _mapped_weights(child), time.monotonic()
        peak = max(peak, own + mapped)
        time.sleep(EVERY)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    if status:
        raise SystemExit("the job failed, see above")
    on_gpu = json.loads(said)
    return peak - first if on_gpu is None else on_gpu


def _anonymous(process: int) -> int:
    """Bytes of memory that belong to the process alone; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE


def _mapped_weights(process: int) -> int:
    """Resident bytes of mapped safetensors files, as far as they are still the file's."""
    try:
        lines = Path(f"/proc/{process}/smaps").read_text().splitlines()
    except OSError:
        return 0
    total, counts = 0, False
    for line in lines:
        name, _, rest = line.partition(":")
        if "-" in name.split(" ")[0] and not rest.endswith("kB"):
            counts = line.endswith(".safetensors")
        elif counts and name == "Rss":
            total += int(rest.split()[0]) * 1024
        elif counts and name == "Anonymous":
            total -= int(rest.split()[0]) * 1024
    return total


def _gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def _gpu_peak() -> int | None:
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def measured(case: str, source: Path) -> int:
    """Bytes at the peak of the case's job."""
    place = Path(tempfile.mkdtemp(prefix="memory-"))
    try:
        return in_a_child(job_of(case, source, place))
    finally:
        shutil.rmtree(place)


def import_all() -> None:
    """What every job imports, so that no case counts it."""
    import importlib

    import torch

    for name in ("torch._dynamo", "transformers", "peft", "pipeline_lib.models.adapters"):
        importlib.import_module(name)
    for step in ("evaluate", "finetune", "unlearn"):
        importlib.import_module(f"pipeline_lib.steps.{step}")
    torch.set_num_threads(1)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    parser.add_argument("--json", action="store_true", help="print bytes of each case, and nothing else")
    asked = parser.parse_args(given)
    names = asked.cases or list(CASES)
    import_all()
    found: dict[str, dict[str, Any]] = {}
    if not asked.json:
        print(f"{'case':<50}{'phase':>16}{'estimate MB':>13}{'measured MB':>13}{'ratio':>8}", flush=True)
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        source = Path(folder) / "source"
        in_a_child(lambda: make_model(source))
        for name in names:
            guess, peak = estimated(name, source), measured(name, source)
            found[name] = {**guess, "measured": peak}
            if not asked.json:
                ratio = guess["bytes"] / peak
                sizes = f"{guess['bytes'] / 1e6:>13.0f}{peak / 1e6:>13.0f}{ratio:>8.2f}"
                print(f"{name:<50}{guess['phase']:>16}{sizes}", flush=True)
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
