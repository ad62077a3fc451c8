from job import job

with job(snakemake):
    from pipeline_lib.reporting.figures import draw_figure

    draw_figure(snakemake.wildcards.figure, snakemake.input, snakemake.output.svg, snakemake.output.png)
