# A task's own tables are gathered first, so that what shows one task needs its runs alone.
rule collect:
    input:
        unpack(STUDY.inputs("collect", ancient)),
    output:
        **STUDY.outputs("collect"),
    log:
        STUDY.log("collect"),
    benchmark:
        STUDY.benchmark("collect")
    wildcard_constraints:
        **STUDY.patterns("collect"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("collect"),
    params:
        job=STUDY.params("collect"),
    script:
        "../scripts/step.py"


rule merge:
    input:
        unpack(STUDY.inputs("merge", ancient)),
    output:
        **STUDY.outputs("merge", **shown("table", "metrics", "Tables")),
    log:
        STUDY.log("merge"),
    benchmark:
        STUDY.benchmark("merge")
    wildcard_constraints:
        **STUDY.patterns("merge"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("merge"),
    params:
        job=STUDY.params("merge"),
    script:
        "../scripts/step.py"


rule table:
    input:
        unpack(STUDY.inputs("table", ancient)),
    output:
        **STUDY.outputs("table", **shown("csv", "table", "Tables")),
    log:
        STUDY.log("table"),
    benchmark:
        STUDY.benchmark("table")
    wildcard_constraints:
        **STUDY.patterns("table"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("table"),
    params:
        job=STUDY.params("table"),
    script:
        "../scripts/step.py"


rule figure:
    input:
        unpack(STUDY.inputs("figure", ancient)),
    output:
        **STUDY.outputs("figure", **shown("svg", "figure", "Figures")),
    log:
        STUDY.log("figure"),
    benchmark:
        STUDY.benchmark("figure")
    wildcard_constraints:
        **STUDY.patterns("figure"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("figure"),
    params:
        job=STUDY.params("figure"),
    script:
        "../scripts/step.py"


rule html_report:
    input:
        unpack(STUDY.inputs("html_report", ancient)),
    output:
        **STUDY.outputs("html_report", **shown("report", "report", "Report")),
    log:
        STUDY.log("html_report"),
    benchmark:
        STUDY.benchmark("html_report")
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("html_report"),
    params:
        job=STUDY.params("html_report"),
    script:
        "../scripts/step.py"
