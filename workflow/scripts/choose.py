from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.steps import choose

    choose.run(
        trial_paths=[Path(path) for path in snakemake.input.trials],
        original_paths=dict(
            zip(snakemake.params.seeds, map(Path, snakemake.input.original), strict=True),
        ),
        select=snakemake.params.select,
        ranges=snakemake.params.ranges,
        out_path=Path(snakemake.output[0]),
    )
