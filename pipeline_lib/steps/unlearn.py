"""Step: one unlearning run, from the original model's folder to the unlearned one's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.files import read_object
from pipeline_lib.models.folder import save_model_folder
from pipeline_lib.steps.common import write_training_folder
from pipeline_lib.steps.unlearning import remove_checkpoints, unlearn_model


def run(
    identity: dict[str, Any],
    objective: dict[str, Any],
    optimizer: dict[str, Any],
    unlearn: dict[str, Any],
    max_length: int,
    device: str,
    threads: int,
    data_dir: Path,
    parent_dir: Path,
    model_dir: Path,
    training_dir: Path,
    checkpoint_dir: Path,
    chosen_path: Path | None = None,
) -> None:
    """Unlearn the forget split from the model in `parent_dir`.

    `objective`, `optimizer`, `unlearn`: resolved settings, with `kind` in the first two; where the row was
    tuned, `chosen_path` holds the settings that are not among them. A run that diverges leaves a model
    folder with run.json alone, so that the rest of the study goes on.
    """
    chosen = None if chosen_path is None else read_object(chosen_path)
    if chosen is not None:
        objective, optimizer = {**objective, **chosen["objective"]}, {**optimizer, **chosen["optimizer"]}
    done = unlearn_model(
        identity,
        objective,
        optimizer,
        unlearn,
        max_length,
        device,
        threads,
        data_dir,
        parent_dir,
        checkpoint_dir,
    )
    if not done.writes:
        return
    # How the settings were found goes with them; what each trial gave stays in chosen.json.
    tuned = None if chosen is None else {k: v for k, v in chosen.items() if k != "trials"}
    run_facts = {**done.facts, "tuned": tuned}
    facts = save_model_folder(model_dir, done.model, done.tokenizer, done.prompt_format, run_facts)
    write_training_folder(training_dir, facts, done.outcome.log)
    remove_checkpoints(checkpoint_dir)
