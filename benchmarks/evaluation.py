"""Speed of a TOFU evaluation: ours against the plain way and, with --peer, against another project's code.

One run, one model, the same questions, limits and metrics: probability of the answer, of its paraphrase and
of the wrong answers, truth ratio, ROUGE-L of the greedy answer, extraction strength. Each way runs in a
process of its own on one thread; CPU seconds do not count imports and loading. The model has learned the
questions, so that its answers end. Definitions: see tofu_ways/__init__.py. Every peer is imported and set up
once before anything is measured, and each row is printed when it is there.

    python benchmarks/evaluation.py                                   # generated data, a small model
    python benchmarks/evaluation.py --model FOLDER --data TOFU_FOLDER --peer OPEN_UNLEARNING --peer SOUL
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tofu_ways import SOUL_PROMPT, openunlearning, ours, perturbed_records, plain, soul

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.data.records import Record, read_records, write_records
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.memory import peak_memory_mb
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.models.source import load_folder
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.tasks.fictitious.generate import generate
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import train
from pipeline_lib.training.settings import Training
from pipeline_lib.training.updates import gradient_update

CACHE = Path("results/benchmark_evaluation")
SMALL = ScratchModel(
    source="scratch",
    vocab_size=2048,
    hidden_size=192,
    intermediate_size=512,
    layers=4,
    heads=6,
    kv_heads=2,
    max_length=512,
)
TRAINING = Training(
    epochs=1,
    batch_size=8,
    accumulation=1,
    warmup=0.1,
    decay="linear",
    max_grad_norm=1.0,
    compute="fp32",
    checkpoint_seconds=1e9,
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="folder of a pretrained model; default: a small random one"
    )
    parser.add_argument("--data", type=Path, help="folder with TOFU's forget10_perturbed.json")
    parser.add_argument("--peer", type=Path, action="append", default=[], help="checkout of a peer's code")
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--epochs", type=float, help="of fine-tuning; default: 5, or 40 for the small model")
    parser.add_argument("--learning-rate", type=float, help="default: 5e-5, or 3e-3 for the small model")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peers: dict[str, list[Path]] = {"tofu": [], "soul": []}
    for peer in arguments.peer:
        kind = "tofu" if openunlearning.is_checkout(peer) else "soul" if soul.is_checkout(peer) else None
        if kind is None:
            parser.error(f"{peer}: neither a checkout of OpenUnlearning nor of the SOUL paper's code")
        peers[kind].append(peer.resolve())
    if missing := _missing(arguments, peers):
        parser.error("nothing is measured before all of this is there:\n  " + "\n  ".join(missing))
    case, failed = _prepared(arguments), False
    for definition in ("tofu", "soul"):
        ways: list[tuple[str, tuple[str, Any]]] = [("ours", ("ours", ours.VARIANTS[0]))]
        ways += [(f"ours, {variant}", ("ours", variant)) for variant in ours.VARIANTS[1:]]
        ways += [("plain, one at a time", ("plain", None))]
        ways += [(peer.name, ("peer", peer)) for peer in peers[definition]]
        measured = ((name, _alone(_measured, case.resolve(), definition, way)) for name, way in ways)
        failed |= _table(definition, measured, arguments.records)
    if failed:
        raise SystemExit(1)


def _missing(arguments: argparse.Namespace, peers: dict[str, list[Path]]) -> list[str]:
    """What the model, the data or a peer lacks; each peer is set up once, in a process of its own."""
    data = arguments.data and arguments.data / "forget10_perturbed.json"
    places = {"--data": data, "--model": arguments.model and arguments.model / "config.json"}
    lines = [f"{option}: no file {path}" for option, path in places.items() if path and not path.is_file()]
    records = generate(n_authors=1)[0][:1]
    for definition, folders in peers.items():
        for folder in folders:
            found = _alone(_runs, records, definition, ("peer", folder))
            lines += [f"--peer {folder}: {found}"] if isinstance(found, Failure) else []
    return lines


def _records(arguments: argparse.Namespace) -> list[Record]:
    if arguments.data is None:
        return generate(n_authors=40)[0][: arguments.records]
    rows = read_jsonl(arguments.data / "forget10_perturbed.json")
    return perturbed_records(rows[: arguments.records])


def _prepared(arguments: argparse.Namespace) -> Path:
    """A folder with the questions and a model that learned them, made once."""
    records = _records(arguments)
    epochs = arguments.epochs or (40 if arguments.model is None else 5)
    rate = arguments.learning_rate or (3e-3 if arguments.model is None else 5e-5)
    told = [str(arguments.model and arguments.model.resolve()), epochs, rate, *map(asdict, records)]
    folder = CACHE / hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
    if (folder / "model").is_dir():
        return folder
    if arguments.model is None:
        texts = [text for r in records for text in (r.prompt, r.answer, *r.distractors)]
        model, tokenizer = build_scratch(SMALL, texts, seed=0)
    else:
        model, tokenizer = load_folder(arguments.model)
    examples = encode_records(records, tokenizer, SOUL_PROMPT, max_length=512, learn=True)
    settings = TRAINING.model_copy(update={"epochs": epochs})
    update = gradient_update(AdamW(kind="adamw", learning_rate=rate), model, settings.max_grad_norm, ALONE)
    data = TrainingData(forget=[], retain=examples, pad_id=tokenizer.eos_token_id)
    started = time.process_time()
    kept = Kept(folder / "checkpoint", "benchmark")
    outcome = train(model, FineTuning(), update, MiniBatches(data, settings, 0), kept)
    write_records(folder / "records.jsonl", records)
    save_model_folder(folder / "model", model, tokenizer, SOUL_PROMPT, {"status": outcome.status})
    print(f"learned {len(records)} questions in {time.process_time() - started:.0f} CPU seconds: {folder}")
    return folder


class Failure(str):
    """Why a way does not run."""


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives in a new process, or a `Failure`: the code of others may do anything."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_guarded, (function, arguments))


def _guarded(function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except ModuleNotFoundError as error:
        return Failure(f"needs the module {error.name}, which is not installed for {sys.executable}")
    except (Exception, SystemExit) as error:
        return Failure(" ".join(f"{type(error).__name__}: {error}".split()))


def _set_up(records: list[Record], definition: str, way: tuple[str, Any]) -> Callable[[Any, Any], Any]:
    """The evaluation of a way, with everything that it needs imported."""
    kind, argument = way
    if kind == "ours":
        return ours.prepare(records, definition, argument)
    if kind == "plain":
        return plain.prepare(records, definition)
    return (openunlearning if definition == "tofu" else soul).prepare(records, argument)


def _runs(records: list[Record], definition: str, way: tuple[str, Any]) -> None:
    """Sets up and throws away; a function cannot travel between processes."""
    _set_up(records, definition, way)


def _measured(case: Path, definition: str, way: tuple[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(1)
    records = read_records(case / "records.jsonl")
    model, tokenizer, _, _ = load_model_folder(case / "model")
    model.eval()
    evaluate = _set_up(records, definition, way)
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))  # what is set up once is not counted
    started, wall = time.process_time(), time.perf_counter()
    values = evaluate(model, tokenizer)
    return {
        "values": values,
        "cpu": time.process_time() - started,
        "wall": time.perf_counter() - wall,
        "peak": peak_memory_mb(torch.device("cpu")),
    }


def _table(definition: str, results: Iterable[tuple[str, Any]], records: int) -> bool:
    """One line a way, printed when its result comes; whether one of them failed.

    Differences are the largest of any value, held against the first way, ours.
    """
    first: dict[str, Any] = {}
    failed = False
    for name, result in results:
        if isinstance(result, Failure):
            print(f"{name:<40} failed: {result}", flush=True)
            failed = True
            continue
        if not first:
            first = result
            _head(definition, first["values"], records)
        values = result["values"]
        first_answers = first["values"]["answers"]
        texts = zip(values["answers"], first_answers, strict=True)
        same = sum(text.strip() == other.strip() for text, other in texts)
        line = f"{name:<40}{result['cpu'] / records:>15.3f}{result['cpu'] / first['cpu']:>8.2f}"
        line += f"{result['peak']:>10.0f}{f'{same}/{len(first_answers)}':>11}"
        for key in _names(first["values"]):
            pairs = zip(values[key], first["values"][key], strict=True)
            line += f"{max(abs(a - b) for a, b in pairs):>19.1e}"
        print(line, flush=True)
    return failed


def _head(definition: str, values: dict[str, Any], records: int) -> None:
    ended = values["ended"]
    print(f"\n{definition} definition, {records} questions; {sum(ended)} of our {len(ended)} answers ended")
    header = f"{'way':<40}{'CPU s/question':>15}{'x ours':>8}{'peak MiB':>10}{'same text':>11}"
    print(header + "".join(f"{'d ' + name:>19}" for name in _names(values)), flush=True)


def _names(values: dict[str, Any]) -> list[str]:
    return [name for name in values if name not in ("answers", "ended")]


if __name__ == "__main__":
    main()
