from pathlib import Path

from job import job


def optional(path: object) -> Path | None:
    """A path, or None for an input that this study does not have."""
    return Path(str(path)) if path else None


with job(snakemake):
    from pipeline_lib.steps import score

    score.run(
        identity=snakemake.params.identity,
        run_path=Path(snakemake.input.run),
        records_path=Path(snakemake.input.records),
        equal_retain_path=Path(snakemake.input.equal_retain),
        reference_path=optional(snakemake.input.reference),
        manifest_path=Path(snakemake.input.manifest),
        benchmarks_path=optional(snakemake.input.benchmarks),
        toxicity_path=optional(snakemake.input.toxicity),
        judge_path=optional(snakemake.input.judge),
        out_path=Path(snakemake.output.metrics),
    )
