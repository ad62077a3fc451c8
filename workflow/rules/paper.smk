# The tables and figures of the paper, each made when asked for by name, from the runs of its tasks alone:
#   snakemake paper_table_tofu
localrules:
    paper_table_tofu,
    paper_table_copyright,
    paper_table_detox,
    paper_table_time,
    paper_figure_highlight,


rule paper_table_tofu:
    input:
        paper_outputs("table_tofu", TABLE_FORMS),


rule paper_table_copyright:
    input:
        paper_outputs("table_copyright", TABLE_FORMS),


rule paper_table_detox:
    input:
        paper_outputs("table_detox", TABLE_FORMS),


rule paper_table_time:
    input:
        paper_outputs("table_time", TABLE_FORMS),


rule paper_figure_highlight:
    input:
        paper_outputs("figure_highlight", FIGURE_FORMS),


rule paper_table:
    input:
        lambda wildcards: paper_files(wildcards.table),
    output:
        report(
            OUT / "paper/{table}.csv",
            caption="../report/table.rst",
            category="Paper",
        ),
        OUT / "paper/{table}.md",
        OUT / "paper/{table}.tex",
    log:
        OUT / "logs/paper_table/{table}.log",
    benchmark:
        OUT / "benchmarks/paper_table/{table}.tsv"
    wildcard_constraints:
        table="|".join(PAPER_TABLES),
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        tasks=lambda wildcards: PAPER_TASKS[wildcards.table],
        code=lambda wildcards: source_hash(
            f"pipeline_lib.reporting.{PAPER_TABLES[wildcards.table].module}"
        ),
    script:
        "../scripts/table.py"


rule paper_figure:
    input:
        lambda wildcards: paper_files(wildcards.figure),
    output:
        report(
            OUT / "paper/{figure}.svg",
            caption="../report/figure.rst",
            category="Paper",
        ),
        OUT / "paper/{figure}.png",
    log:
        OUT / "logs/paper_figure/{figure}.log",
    benchmark:
        OUT / "benchmarks/paper_figure/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(PAPER_FIGURES),
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        tasks=lambda wildcards: PAPER_TASKS[wildcards.figure],
        code=lambda wildcards: source_hash(
            f"pipeline_lib.reporting.{PAPER_FIGURES[wildcards.figure].module}"
        ),
    script:
        "../scripts/figure.py"
