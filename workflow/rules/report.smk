include: "shown.smk"


rule collect:
    input:
        collected_from,
    output:
        OUT / "collected/{task}/{collected}.csv",
    log:
        OUT / "logs/collect/{task}/{collected}.log",
    benchmark:
        OUT / "benchmarks/collect/{task}/{collected}.tsv"
    wildcard_constraints:
        collected="metrics|costs",
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        code=source_hash("pipeline_lib.reporting.collect"),
    script:
        "../scripts/collect.py"


rule merge:
    input:
        expand(OUT / "collected/{task}/{{collected}}.csv", task=SUITE.tasks),
    output:
        report(
            OUT / "{collected}.csv", caption="../report/metrics.rst", category="Tables"
        ),
    log:
        OUT / "logs/merge/{collected}.log",
    benchmark:
        OUT / "benchmarks/merge/{collected}.tsv"
    wildcard_constraints:
        collected="metrics|costs",
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        code=source_hash("pipeline_lib.reporting.collect"),
    script:
        "../scripts/merge.py"


rule table:
    input:
        lambda wildcards: files_named(TABLES[wildcards.table].needs),
    output:
        report(
            OUT / "tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
        ),
        OUT / "tables/{table}.md",
        OUT / "tables/{table}.tex",
    log:
        OUT / "logs/table/{table}.log",
    benchmark:
        OUT / "benchmarks/table/{table}.tsv"
    wildcard_constraints:
        table="|".join(TABLES),
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        code=lambda wildcards: source_hash(
            f"pipeline_lib.reporting.{TABLES[wildcards.table].module}"
        ),
    script:
        "../scripts/table.py"


rule figure:
    input:
        lambda wildcards: files_named(FIGURES[wildcards.figure].needs),
    output:
        svg=report(
            OUT / "figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Figures",
        ),
        png=OUT / "figures/{figure}.png",
    log:
        OUT / "logs/figure/{figure}.log",
    benchmark:
        OUT / "benchmarks/figure/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        code=lambda wildcards: source_hash(
            f"pipeline_lib.reporting.{FIGURES[wildcards.figure].module}"
        ),
    script:
        "../scripts/figure.py"


rule html_report:
    input:
        files_named(REPORT_NEEDS),
        expand(OUT / "tables/{table}.{form}", table=TABLES, form=TABLE_FORMS),
        expand(OUT / "figures/{figure}.{form}", figure=FIGURES, form=FIGURE_FORMS),
    output:
        report(
            OUT / "report/index.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        OUT / "logs/html_report.log",
    benchmark:
        OUT / "benchmarks/html_report.tsv"
    conda:
        "../../environment.yml"
    resources:
        **small(reads_all_runs=True),
    params:
        code=[
            source_hash(f"pipeline_lib.reporting.{module}")
            for module in (
                "html",
                *(item.module for item in (TABLES | FIGURES).values()),
            )
        ],
    script:
        "../scripts/html_report.py"
