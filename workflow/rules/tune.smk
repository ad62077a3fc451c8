# Equal-budget tuning: the same number of trials for every row, and the settings chosen from them.
# A trial is known from the suite alone, so that a changed range reruns only what it changes.
localrules:
    choose,


rule trial:
    input:
        unpack(STUDY.inputs("trial", ancient)),
    output:
        **STUDY.outputs("trial"),
    log:
        STUDY.log("trial"),
    benchmark:
        STUDY.benchmark("trial")
    wildcard_constraints:
        **STUDY.patterns("trial"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("trial"),
    params:
        job=STUDY.params("trial"),
    script:
        "../scripts/step.py"


rule choose:
    input:
        unpack(STUDY.inputs("choose", ancient)),
    output:
        **STUDY.outputs("choose"),
    log:
        STUDY.log("choose"),
    benchmark:
        STUDY.benchmark("choose")
    wildcard_constraints:
        **STUDY.patterns("choose"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("choose"),
    params:
        job=STUDY.params("choose"),
    script:
        "../scripts/step.py"
