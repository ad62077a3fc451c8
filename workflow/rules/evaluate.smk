rule evaluate:
    input:
        unpack(STUDY.inputs("evaluate", ancient)),
    output:
        **STUDY.outputs("evaluate"),
    log:
        STUDY.log("evaluate"),
    benchmark:
        STUDY.benchmark("evaluate")
    wildcard_constraints:
        **STUDY.patterns("evaluate"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("evaluate"),
    params:
        job=STUDY.params("evaluate"),
    script:
        "../scripts/step.py"


# Jobs of their own, so that other benchmarks or prompts do not evaluate the task again.
rule standard_benchmarks:
    input:
        unpack(STUDY.inputs("standard_benchmarks", ancient)),
    output:
        **STUDY.outputs("standard_benchmarks"),
    log:
        STUDY.log("standard_benchmarks"),
    benchmark:
        STUDY.benchmark("standard_benchmarks")
    wildcard_constraints:
        **STUDY.patterns("standard_benchmarks"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("standard_benchmarks"),
    params:
        job=STUDY.params("standard_benchmarks"),
    script:
        "../scripts/step.py"


rule toxicity:
    input:
        unpack(STUDY.inputs("toxicity", ancient)),
    output:
        **STUDY.outputs("toxicity"),
    log:
        STUDY.log("toxicity"),
    benchmark:
        STUDY.benchmark("toxicity")
    wildcard_constraints:
        **STUDY.patterns("toxicity"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("toxicity"),
    params:
        job=STUDY.params("toxicity"),
    script:
        "../scripts/step.py"


rule inside:
    input:
        unpack(STUDY.inputs("inside", ancient)),
    output:
        **STUDY.outputs("inside"),
    log:
        STUDY.log("inside"),
    benchmark:
        STUDY.benchmark("inside")
    wildcard_constraints:
        **STUDY.patterns("inside"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("inside"),
    params:
        job=STUDY.params("inside"),
    script:
        "../scripts/step.py"


rule score:
    input:
        unpack(STUDY.inputs("score", ancient)),
    output:
        **STUDY.outputs("score"),
    log:
        STUDY.log("score"),
    benchmark:
        STUDY.benchmark("score")
    wildcard_constraints:
        **STUDY.patterns("score"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("score"),
    params:
        job=STUDY.params("score"),
    script:
        "../scripts/step.py"
