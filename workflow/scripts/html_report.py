from job import job

with job(snakemake):
    from pipeline_lib.reporting.html import write_report

    write_report(snakemake.input, snakemake.output[0])
