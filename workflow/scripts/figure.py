from job import job

with job(snakemake):
    from pipeline_lib.reporting.figures import draw_figure

    svg, png = snakemake.output
    draw_figure(snakemake.wildcards.figure, snakemake.input, svg, png, tasks=snakemake.params.get("tasks"))
