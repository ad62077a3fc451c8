from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import toxicity

    toxicity.run(
        toxicity=snakemake.params.toxicity,
        as_released=snakemake.params.as_released,
        max_tokens_per_batch=snakemake.params.batch,
        compute=snakemake.params.compute,
        device=snakemake.params.device,
        threads=snakemake.threads,
        model_dir=Path(snakemake.input.model),
        out_path=Path(snakemake.output[0]),
        work_dir=Path(snakemake.params.work),
    )
