from job import job, shared

with job(snakemake):
    snakemake.params.identity["trial"] = int(snakemake.wildcards.trial)
    shared(snakemake, "trial", output="trial")
