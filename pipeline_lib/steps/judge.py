"""Step: try a toxicity classifier on labelled texts before it judges any model."""

from __future__ import annotations

import sys
from dataclasses import asdict

from pydantic import TypeAdapter

from pipeline_lib.core.files import write_json
from pipeline_lib.data.labelled_at_hand import labelled_at_hand
from pipeline_lib.data.toxicity_prompts import Prompts
from pipeline_lib.engine.classifiers import Classifier, load_classifier
from pipeline_lib.engine.classifiers.validation import check_fit
from pipeline_lib.steps.common import start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Write how well a classifier recognises toxicity in texts like those that it will judge.

    Settings: `classifier`, `prompts`, `labelled` of the suite's block `toxicity`. The output is
    {"classifier", "kind", "warning", "validation": {"auc", "low", "high", "n", "measured", "note"} or null};
    `measured` names the labelled texts, or the date of a measurement that came with the project. A classifier
    that is blind to them is a `UserError`. Input `manifest`: the task's, where its own prompts are asked.
    Runs on the CPU: a classifier is small, and its AUC is needed once a study.
    """
    classifier: Classifier = TypeAdapter(Classifier).validate_python(job.settings["classifier"])
    prompts: Prompts = TypeAdapter(Prompts).validate_python(job.settings["prompts"])
    judge = load_classifier(classifier, start("cpu", job.threads))
    own = None if job.optional("manifest") is None else job.data
    texts = labelled_at_hand(prompts, job.settings["labelled"], own)
    fit = check_fit(judge, texts.kind, texts)
    found = fit.validation
    print(
        f"read with care: {fit.warning}"
        if found is None
        else f"{judge.name}: {found.said(3)} on {found.n} labelled texts ({found.measured})",
        file=sys.stderr,
    )
    write_json(
        job.output("judge"),
        {
            "classifier": judge.name,
            "kind": texts.kind,
            "warning": fit.warning,
            "validation": None if found is None else asdict(found),
        },
    )
