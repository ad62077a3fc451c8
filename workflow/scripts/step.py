from job import job, run

with job(snakemake):
    run(snakemake)
