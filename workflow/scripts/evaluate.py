from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import evaluate

    evaluate.run(
        evaluation=snakemake.params.evaluation,
        max_length=snakemake.params.max_length,
        device=snakemake.params.device,
        threads=snakemake.threads,
        data_dir=Path(snakemake.input.manifest).parent,
        model_dir=Path(snakemake.input.model),
        records_path=Path(snakemake.output.records),
        work_dir=Path(snakemake.params.work),
    )
