"""Step: make a base once, from which the models before unlearning of every task and seed start."""

from __future__ import annotations

import sys
import time

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import current
from pipeline_lib.models.corpus import check_corpus, read_corpus, stream_of
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.steps.common import became, fingerprint, on_device, remove_work, run_facts, save_run, start
from pipeline_lib.steps.job import Job
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.compute import with_compute
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.fine_tuning import fine_tuned
from pipeline_lib.training.pretrain_settings import as_fine_tuning
from pipeline_lib.training.pretraining import divided, held_out
from pipeline_lib.training.sampling import rows_before


def run(job: Job) -> None:
    """Train tokenizer and model on the text of the setting `model`, and judge it by text that was held out.

    Settings: `label`, the model's name in the suite; `model`, with its block `pretrain`; `inputs`, the
    identity of the text on this machine. Outputs: the folder `model`, and `run` with steps.jsonl beside it.
    Pretraining that diverges is an error.
    """
    label, given, inputs = (job.settings[name] for name in ("label", "model", "inputs"))
    settings = ScratchModel.model_validate(given)
    pretrain = settings.pretrain
    assert pretrain is not None
    started, group, place = time.monotonic(), current(), start(job.device, job.threads)
    corpus = read_corpus(pretrain)
    model, tokenizer = build_scratch(settings, corpus.texts, pretrain.seed)
    stream = stream_of(tokenizer.backend_tokenizer, corpus.texts)
    check_corpus(settings, len(tokenizer), len(stream))
    context = pretrain.context_in(settings.max_length)
    learned, kept_apart = divided(torch.tensor(stream, dtype=torch.int32), context, pretrain.held_out)
    asked = as_fine_tuning(pretrain, pretrain.steps_in(settings.max_length), len(learned))
    training = with_compute(asked, place, group)
    stepper = AdamW(kind="adamw", learning_rate=training.learning_rate, weight_decay=training.weight_decay)
    data = TrainingData(forget=[], retain=learned, pad_id=tokenizer.pad_token_id)
    course = MiniBatches(data, training, pretrain.seed)
    seen = rows_before(len(learned), course.size, course.steps) * context
    if group.writes:
        print(
            f"{label}: {len(stream):,} tokens of text, {len(learned):,} windows of {context} and "
            f"{len(kept_apart):,} held out; {course.steps:,} steps see {seen:,} tokens, "
            f"{training.epochs:.2f} times the text",
            file=sys.stderr,
        )
    mark = fingerprint(label, given, training.model_dump(), corpus.parts, inputs, job.code)
    on_device(model, place)
    outcome, learning = fine_tuned(model, stepper, training, course, Kept(job.workplace, mark), group)
    if outcome.status != "ok":
        raise UserError(
            f"pretraining of {label} diverged at step {outcome.diverged_step}: lower "
            f"models.{label}.pretrain.learning_rate ({pretrain.learning_rate})"
        )
    if not group.writes:
        return
    judged = held_out(model, tokenizer, kept_apart, pretrain.batch_size).described()
    print(
        f"{label}: held-out perplexity {judged['perplexity']:.2f} a token, "
        f"{judged['bits_per_byte']:.3f} bits a byte, over {judged['tokens']:,} tokens",
        file=sys.stderr,
    )
    facts = run_facts(
        job.identity,
        outcome,
        place,
        started,
        model=label,
        objective={"kind": "FineTuning"},
        optimizer_settings=stepper.model_dump(),
        training=training.model_dump(exclude={"learning_rate", "weight_decay"}),
        auto=became(given["pretrain"], training.model_dump()),
        model_settings=given,
        origin={"kind": "scratch"},
        inputs=inputs,
        parameters=sum(p.numel() for p in model.parameters()),
        trained_parameters=learning,
        text={"parts": corpus.parts, "tokens": len(stream), "windows": len(learned)},
        tokens_seen=seen,
        held_out=judged,
        parent=None,
        processes=group.size,
        code=job.code,
    )
    save_run(job, (model, tokenizer, PromptFormat(**dict(settings.prompt))), facts, outcome.log)
    remove_work(job.workplace)
