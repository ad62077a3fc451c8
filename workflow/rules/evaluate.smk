rule evaluate:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        model=OUT / "models" / RUN,
        original=original_to_mix_with,
    output:
        records=OUT / "evaluations" / RUN / "records.jsonl",
        equal_retain=OUT / "evaluations" / RUN / "equal_retain.json",
    log:
        OUT / f"logs/evaluate/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/evaluate/{RUN}.tsv"
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **GPU,
        mem_mb=RESOURCES.memory_mb,
        runtime=RESOURCES.minutes,
    params:
        evaluation=lambda wildcards: SUITE.evaluation.model_dump(
            exclude={"equal_retain"}
        ),
        equal_retain=equal_retain,
        max_length=lambda wildcards: SUITE.models[wildcards.model].max_length,
        device=DEVICE,
        work=lambda wildcards: str(OUT / "checkpoints/evaluate" / RUN).format(
            **wildcards
        ),
        code=source_hash("pipeline_lib.steps.evaluate"),
    script:
        "../scripts/evaluate.py"


rule score:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        run=OUT / "training" / RUN / "run.json",
        records=OUT / "evaluations" / RUN / "records.jsonl",
        equal_retain=OUT / "evaluations" / RUN / "equal_retain.json",
        reference=reference_records,
    output:
        metrics=OUT / "evaluations" / RUN / "metrics.json",
    log:
        OUT / f"logs/score/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/score/{RUN}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        identity=identity,
        code=source_hash("pipeline_lib.steps.score"),
    script:
        "../scripts/score.py"
