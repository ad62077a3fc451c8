from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import evaluate

    evaluate.run(
        evaluation=snakemake.params.evaluation,
        embedder=snakemake.params.embedder,
        equal_retain=snakemake.params.equal_retain,
        max_length=snakemake.params.max_length,
        device=snakemake.params.device,
        threads=snakemake.threads,
        data_dir=Path(snakemake.input.manifest).parent,
        model_dir=Path(snakemake.input.model),
        original_dir=Path(snakemake.input.original) if snakemake.input.original else None,
        records_path=Path(snakemake.output.records),
        equal_retain_path=Path(snakemake.output.equal_retain),
        work_dir=Path(snakemake.params.work),
    )
