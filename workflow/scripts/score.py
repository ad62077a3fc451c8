from job import job, step

with job(snakemake):
    step(snakemake, "score")
