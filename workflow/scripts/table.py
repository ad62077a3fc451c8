from job import job

with job(snakemake):
    from pipeline_lib.reporting.tables import write_table

    tasks = snakemake.params.get("tasks")
    write_table(snakemake.wildcards.table, snakemake.input, *snakemake.output, tasks=tasks)
