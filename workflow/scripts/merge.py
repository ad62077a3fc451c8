from job import job

with job(snakemake):
    from pipeline_lib.reporting.collect import merge_tables

    merge_tables(snakemake.input, snakemake.output[0])
