rule evaluate:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        model=OUT / "models" / RUN,
    output:
        records=OUT / "evaluations" / RUN / "records.jsonl",
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
        evaluation=lambda wildcards: SUITE.evaluation.model_dump(),
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
