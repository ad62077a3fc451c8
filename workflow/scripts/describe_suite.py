from job import job

with job(snakemake):
    from pipeline_lib.files import write_text

    write_text(snakemake.output.suite, snakemake.params.suite)
    write_text(snakemake.output.runs, snakemake.params.runs + "\n")
