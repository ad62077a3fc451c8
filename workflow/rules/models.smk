# A base that the study pretrains itself: once for each model, whatever tasks and seeds start from it.
rule pretrain:
    input:
        unpack(STUDY.inputs("pretrain", ancient)),
    output:
        **STUDY.outputs("pretrain", model=directory),
    log:
        STUDY.log("pretrain"),
    benchmark:
        STUDY.benchmark("pretrain")
    wildcard_constraints:
        **STUDY.patterns("pretrain"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("pretrain"),
    params:
        job=STUDY.params("pretrain"),
    script:
        "../scripts/step.py"


# The pretrained model as a row of its own: its weights are not copied, so that its folder is small.
rule base:
    input:
        unpack(STUDY.inputs("base", ancient)),
    output:
        **STUDY.outputs("base", model=directory),
    log:
        STUDY.log("base"),
    benchmark:
        STUDY.benchmark("base")
    wildcard_constraints:
        **STUDY.patterns("base"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("base"),
    params:
        job=STUDY.params("base"),
    script:
        "../scripts/step.py"


# A model is made from data, from another model, or from several.
rule finetune:
    input:
        unpack(STUDY.inputs("finetune", ancient)),
    output:
        **STUDY.outputs("finetune", model=directory),
    log:
        STUDY.log("finetune"),
    benchmark:
        STUDY.benchmark("finetune")
    wildcard_constraints:
        **STUDY.patterns("finetune"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("finetune"),
    params:
        job=STUDY.params("finetune"),
    script:
        "../scripts/step.py"


rule unlearn:
    input:
        unpack(STUDY.inputs("unlearn", ancient)),
    output:
        **STUDY.outputs("unlearn", model=model_folder),
    log:
        STUDY.log("unlearn"),
    benchmark:
        STUDY.benchmark("unlearn")
    wildcard_constraints:
        **STUDY.patterns("unlearn"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("unlearn"),
    params:
        job=STUDY.params("unlearn"),
    script:
        "../scripts/step.py"


# Where the path of a run crosses the utility at which rows are compared; `unlearn` then makes it again up to there.
localrules:
    match,


rule match:
    input:
        unpack(STUDY.inputs("match", ancient)),
    output:
        **STUDY.outputs("match"),
    log:
        STUDY.log("match"),
    benchmark:
        STUDY.benchmark("match")
    wildcard_constraints:
        **STUDY.patterns("match"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("match"),
    params:
        job=STUDY.params("match"),
    script:
        "../scripts/step.py"


# A model that is asked in another way is its parent: this writes its facts, and `evaluate` asks the parent.
localrules:
    ask,


rule ask:
    input:
        unpack(STUDY.inputs("ask", ancient)),
    output:
        **STUDY.outputs("ask"),
    log:
        STUDY.log("ask"),
    benchmark:
        STUDY.benchmark("ask")
    wildcard_constraints:
        **STUDY.patterns("ask"),
    conda:
        "../../environment.yml"
    resources:
        **STUDY.resources("ask"),
    params:
        job=STUDY.params("ask"),
    script:
        "../scripts/step.py"


rule stage:
    input:
        unpack(STUDY.inputs("stage", ancient)),
    output:
        **STUDY.outputs("stage", model=model_folder),
    log:
        STUDY.log("stage"),
    benchmark:
        STUDY.benchmark("stage")
    wildcard_constraints:
        **STUDY.patterns("stage"),
    conda:
        "../../environment.yml"
    threads: SUITE.resources.threads
    resources:
        **STUDY.resources("stage"),
    params:
        job=STUDY.params("stage"),
    script:
        "../scripts/step.py"
