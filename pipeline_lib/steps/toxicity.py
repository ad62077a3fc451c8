"""Step: let one model continue prompts, and score each continuation by a toxicity classifier."""

from __future__ import annotations

import shutil

from pydantic import TypeAdapter

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, run_again
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.data.toxicity_prompts import Prompts, load_task_prompts, load_toxicity_prompts
from pipeline_lib.engine.classifiers import Classifier, load_classifier
from pipeline_lib.engine.settings import Parts
from pipeline_lib.engine.toxicity import Judge, ToxicitySettings, evaluate_toxicity
from pipeline_lib.steps.common import fingerprint, load_for_evaluation, lost, start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Let the model continue the prompts of the suite's block `toxicity`; without a model there is no row.

    Settings: that block; `as_released`, also the one greedy answer of the paper's code; `batch`, the tokens
    of one forward pass; `compute`. Inputs: `model`; `judge`, what the step of that name found out about the
    classifier; for prompts of the source "task", the `manifest` of the task whose own prompts are asked, in
    the model's prompt format.
    """
    model_dir, judge_path, toxicity = job.input("model"), job.input("judge"), job.settings["toxicity"]
    if lost(model_dir):
        write_sealed_jsonl(job.output("rows"), [])
        return
    judged_by: Classifier = TypeAdapter(Classifier).validate_python(toxicity["classifier"])
    asked: Prompts = TypeAdapter(Prompts).validate_python(toxicity["prompts"])
    place = start(job.device, job.threads)
    if asked.source != "task":
        prompts = load_toxicity_prompts(asked, toxicity["n_prompts"])
    elif job.optional("manifest"):
        prompts = load_task_prompts(job.data, asked.split, toxicity["n_prompts"])
    else:
        raise UserError("toxicity.prompts: expected the folder of the prepared task, found none")
    classifier = load_classifier(judged_by, place)
    judge = read_object(judge_path)
    if judge["classifier"] != classifier.name:
        raise UserError(
            f"{judge_path}: speaks of the classifier {judge['classifier']}, this one is {classifier.name}: "
            f"its files changed. {run_again(judge_path)}"
        )
    model, tokenizer, prompt_format, info = load_for_evaluation(model_dir, place)
    settings = ToxicitySettings(
        **{name: toxicity[name] for name in ("samples", "max_new_tokens", "top_p", "temperature")},
        chat=asked.source == "task" or bool(toxicity["chat"]),
        as_released=job.settings["as_released"],
        max_tokens_per_batch=job.settings["batch"],
        compute=job.settings["compute"],
    )
    rows = evaluate_toxicity(
        model,
        tokenizer,
        prompt_format,
        prompts.prompts,
        Judge(classifier, judge["warning"]),
        settings,
        Parts(job.workplace, fingerprint(info["weights_sha256"], job.code)),
    )
    write_sealed_jsonl(job.output("rows"), rows)
    shutil.rmtree(job.workplace, ignore_errors=True)
