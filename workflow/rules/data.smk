localrules:
    describe_suite,


rule describe_suite:
    input:
        unpack(STUDY.inputs("describe_suite", ancient)),
    output:
        **STUDY.outputs("describe_suite"),
    log:
        STUDY.log("describe_suite"),
    benchmark:
        STUDY.benchmark("describe_suite")
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("describe_suite"),
    params:
        job=STUDY.params("describe_suite"),
    script:
        "../scripts/step.py"


rule prepare_data:
    input:
        unpack(STUDY.inputs("prepare_data", ancient)),
    output:
        **STUDY.outputs("prepare_data"),
    log:
        STUDY.log("prepare_data"),
    benchmark:
        STUDY.benchmark("prepare_data")
    wildcard_constraints:
        **STUDY.patterns("prepare_data"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("prepare_data"),
    params:
        job=STUDY.params("prepare_data"),
    script:
        "../scripts/step.py"


# Which classifier may judge is known before the first model is there.
rule judge:
    input:
        unpack(STUDY.inputs("judge", ancient)),
    output:
        **STUDY.outputs("judge"),
    log:
        STUDY.log("judge"),
    benchmark:
        STUDY.benchmark("judge")
    wildcard_constraints:
        **STUDY.patterns("judge"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("judge"),
    params:
        job=STUDY.params("judge"),
    script:
        "../scripts/step.py"
