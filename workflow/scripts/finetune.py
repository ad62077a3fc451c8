from pathlib import Path

from job import job, shared

with job(snakemake):
    from pipeline_lib.steps import finetune

    shared(
        snakemake,
        finetune.run,
        identity=snakemake.params.identity,
        model_settings=snakemake.params.model,
        inputs=snakemake.params.inputs,
        finetune=snakemake.params.finetune,
        device=snakemake.params.device,
        data_dir=Path(snakemake.input.manifest).parent,
        model_dir=Path(snakemake.output.model),
        training_dir=Path(snakemake.output.run).parent,
        checkpoint_dir=Path(snakemake.params.checkpoint),
    )
