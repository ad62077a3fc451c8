from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import judge

    manifest = snakemake.input.manifest  # empty where the prompts are not the task's own
    judge.run(
        classifier=snakemake.params.classifier,
        prompts=snakemake.params.prompts,
        labelled=snakemake.params.labelled,
        threads=snakemake.threads,
        data_dir=Path(manifest).parent if manifest else None,
        out_path=Path(snakemake.output[0]),
    )
