from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import toxicity

    manifest = snakemake.input.manifest  # empty where the prompts are not the task's own
    toxicity.run(
        toxicity=snakemake.params.toxicity,
        as_released=snakemake.params.as_released,
        max_tokens_per_batch=snakemake.params.batch,
        compute=snakemake.params.compute,
        device=snakemake.params.device,
        threads=snakemake.threads,
        model_dir=Path(snakemake.input.model),
        judge_path=Path(snakemake.input.judge),
        data_dir=Path(manifest).parent if manifest else None,
        out_path=Path(snakemake.output[0]),
        work_dir=Path(snakemake.params.work),
    )
