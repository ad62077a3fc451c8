from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps.prepare_data import prepare_task

    prepare_task(snakemake.params.task, Path(snakemake.output.manifest).parent)
