# The tables and figures of the paper, each made when asked for by name, from the runs of its tasks alone:
#   snakemake paper_table_tofu
for item in (*running.PAPER_TABLES, *running.PAPER_FIGURES):

    rule:
        name:
            f"paper_{item}"
        input:
            lambda wildcards, item=item: STUDY.paper(item),
        localrule: True


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
