from pathlib import Path

from job import job, shared

with job(snakemake):
    from pipeline_lib.steps import trial

    shared(
        snakemake,
        trial.run,
        identity=snakemake.params.identity,
        trial=int(snakemake.wildcards.trial),
        tuned=snakemake.params.tuned,
        objective=snakemake.params.objective,
        optimizer=snakemake.params.optimizer,
        unlearn=snakemake.params.unlearn,
        evaluation=snakemake.params.evaluation,
        max_length=snakemake.params.max_length,
        device=snakemake.params.device,
        data_dir=Path(snakemake.input.manifest).parent,
        parent_dir=Path(snakemake.input.parent),
        reference_path=Path(snakemake.input.reference) if snakemake.input.reference else None,
        checkpoint_dir=Path(snakemake.params.checkpoint),
        out_path=Path(snakemake.output[0]),
    )
