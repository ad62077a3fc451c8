rule finetune:
    input:
        manifest=OUT / "data/{task}/manifest.json",
    output:
        model=directory(OUT / "models" / ANCHOR),
        steps=OUT / "training" / ANCHOR / "steps.jsonl",
        run=OUT / "training" / ANCHOR / "run.json",
    log:
        OUT / f"logs/finetune/{ANCHOR}.log",
    benchmark:
        OUT / f"benchmarks/finetune/{ANCHOR}.tsv"
    wildcard_constraints:
        method="|".join(ANCHORS),
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("finetune"),
    params:
        identity=identity,
        model=lambda wildcards: SUITE.models[wildcards.model].model_dump(
            exclude={"shape"}
        ),
        inputs=own_model,
        finetune=lambda wildcards: SUITE.finetune_of(wildcards.task).model_dump(),
        device=DEVICE,
        checkpoint=lambda wildcards: str(OUT / "checkpoints" / ANCHOR).format(
            **wildcards
        ),
        code=source_hash("pipeline_lib.steps.finetune"),
    script:
        "../scripts/finetune.py"


rule unlearn:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        parent=OUT / "models/{task}/{model}/original/none/seed{seed}",
        chosen=chosen_settings,
    output:
        model=unlearned_model(OUT / "models" / RUN),
        steps=OUT / "training" / RUN / "steps.jsonl",
        run=OUT / "training" / RUN / "run.json",
    log:
        OUT / f"logs/unlearn/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/unlearn/{RUN}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, SUITE.objectives)),
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("unlearn"),
    params:
        identity=identity,
        objective=lambda wildcards: given(wildcards, "objective"),
        optimizer=lambda wildcards: given(wildcards, "optimizer"),
        unlearn=lambda wildcards: run_of(wildcards).unlearn,
        max_length=lambda wildcards: SUITE.models[wildcards.model].max_length,
        device=DEVICE,
        checkpoint=lambda wildcards: str(OUT / "checkpoints" / RUN).format(**wildcards),
        code=source_hash("pipeline_lib.steps.unlearn"),
    script:
        "../scripts/unlearn.py"
