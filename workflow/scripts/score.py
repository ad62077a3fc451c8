from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import score

    score.run(
        identity=snakemake.params.identity,
        run_path=Path(snakemake.input.run),
        records_path=Path(snakemake.input.records),
        equal_retain_path=Path(snakemake.input.equal_retain),
        reference_path=Path(snakemake.input.reference),
        manifest_path=Path(snakemake.input.manifest),
        out_path=Path(snakemake.output.metrics),
    )
