from job import job, shared

with job(snakemake):
    shared(snakemake, "unlearn")
