from job import job, step

with job(snakemake):
    step(snakemake, "standard_benchmarks", output="rows")
