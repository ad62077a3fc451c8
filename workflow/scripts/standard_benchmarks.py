from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import standard_benchmarks

    standard_benchmarks.run(
        benchmarks=snakemake.params.benchmarks,
        max_tokens_per_batch=snakemake.params.batch,
        device=snakemake.params.device,
        threads=snakemake.threads,
        model_dir=Path(snakemake.input.model),
        out_path=Path(snakemake.output[0]),
        work_dir=Path(snakemake.params.work),
    )
