# Equal-budget tuning: the same number of trials for every row, and the settings chosen from them.
# A trial is known from the suite alone, so that a changed range reruns only what it changes; one of a later
# round is known but for the ranges, which `widen` writes.
localrules:
    choose_so_far,
    widen,
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


rule choose_so_far:
    input:
        unpack(STUDY.inputs("choose_so_far", ancient)),
    output:
        **STUDY.outputs("choose_so_far"),
    log:
        STUDY.log("choose_so_far"),
    benchmark:
        STUDY.benchmark("choose_so_far")
    wildcard_constraints:
        **STUDY.patterns("choose_so_far"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("choose_so_far"),
    params:
        job=STUDY.params("choose_so_far"),
    script:
        "../scripts/step.py"


rule widen:
    input:
        unpack(STUDY.inputs("widen", ancient)),
    output:
        **STUDY.outputs("widen"),
    log:
        STUDY.log("widen"),
    benchmark:
        STUDY.benchmark("widen")
    wildcard_constraints:
        **STUDY.patterns("widen"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("widen"),
    params:
        job=STUDY.params("widen"),
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
