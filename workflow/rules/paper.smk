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
        lambda wildcards: STUDY.paper("table_tofu"),


rule paper_table_copyright:
    input:
        lambda wildcards: STUDY.paper("table_copyright"),


rule paper_table_detox:
    input:
        lambda wildcards: STUDY.paper("table_detox"),


rule paper_table_time:
    input:
        lambda wildcards: STUDY.paper("table_time"),


rule paper_figure_highlight:
    input:
        lambda wildcards: STUDY.paper("figure_highlight"),


rule paper_table:
    input:
        unpack(STUDY.inputs("paper_table", ancient)),
    output:
        **STUDY.outputs("paper_table", **shown("csv", "table", "Paper")),
    log:
        STUDY.log("paper_table"),
    benchmark:
        STUDY.benchmark("paper_table")
    wildcard_constraints:
        **STUDY.patterns("paper_table"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("paper_table"),
    params:
        job=STUDY.params("paper_table"),
    script:
        "../scripts/step.py"


rule paper_figure:
    input:
        unpack(STUDY.inputs("paper_figure", ancient)),
    output:
        **STUDY.outputs("paper_figure", **shown("svg", "figure", "Paper")),
    log:
        STUDY.log("paper_figure"),
    benchmark:
        STUDY.benchmark("paper_figure")
    wildcard_constraints:
        **STUDY.patterns("paper_figure"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("paper_figure"),
    params:
        job=STUDY.params("paper_figure"),
    script:
        "../scripts/step.py"
