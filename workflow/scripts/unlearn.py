from pathlib import Path

from job import job, shared

with job(snakemake):
    from pipeline_lib.steps import unlearn

    shared(
        snakemake,
        unlearn.run,
        identity=snakemake.params.identity,
        objective=snakemake.params.objective,
        optimizer=snakemake.params.optimizer,
        unlearn=snakemake.params.unlearn,
        max_length=snakemake.params.max_length,
        device=snakemake.params.device,
        data_dir=Path(snakemake.input.manifest).parent,
        parent_dir=Path(snakemake.input.parent),
        model_dir=Path(snakemake.output.model),
        training_dir=Path(snakemake.output.run).parent,
        checkpoint_dir=Path(snakemake.params.checkpoint),
        chosen_path=Path(snakemake.input.chosen) if snakemake.input.chosen else None,
    )
