from pathlib import Path

from job import job

with job(snakemake):
    from pipeline_lib.reporting.collect import collect_costs, collect_metrics

    if snakemake.wildcards.collected == "metrics":
        collect_metrics(snakemake.input, snakemake.output[0])
    else:
        runs = [Path(path) for path in snakemake.input if path.endswith("run.json")]
        collect_costs([path.parent for path in runs], snakemake.output[0])
