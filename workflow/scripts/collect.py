from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.reporting.collect import collect_costs, collect_metrics

    runs = [Path(path) for path in snakemake.input.training if path.endswith("run.json")]
    collect_metrics(snakemake.input.metrics, snakemake.output.metrics)
    collect_costs([path.parent for path in runs], snakemake.output.costs)
