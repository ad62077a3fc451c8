rule evaluate:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        model=OUT / "models" / RUN,
        original=original_to_mix_with,
    output:
        records=OUT / "evaluations" / RUN / "records.jsonl",
        equal_retain=OUT / "evaluations" / RUN / "equal_retain.json",
        # sha256 of each, which its readers check
        seals=expand(
            OUT / "evaluations" / RUN / "{name}.sha256",
            name=["records.jsonl", "equal_retain.json"],
            allow_missing=True,
        ),
    log:
        OUT / f"logs/evaluate/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/evaluate/{RUN}.tsv"
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("evaluate"),
    params:
        evaluation=evaluation_settings("records"),
        embedder=evaluation_settings("embedder"),
        inputs=own_evaluation("embedder"),
        equal_retain=equal_retain,
        max_length=max_length,
        device=DEVICE,
        work=lambda wildcards: str(OUT / "checkpoints/evaluate" / RUN).format(
            **wildcards
        ),
        code=source_hash("pipeline_lib.steps.evaluate"),
    script:
        "../scripts/evaluate.py"


# Jobs of their own, so that other benchmarks or prompts do not evaluate the task again.
rule standard_benchmarks:
    input:
        model=OUT / "models" / RUN,
    output:
        OUT / "evaluations" / RUN / "benchmarks.jsonl",
        seal=OUT / "evaluations" / RUN / "benchmarks.jsonl.sha256",
    log:
        OUT / f"logs/standard_benchmarks/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/standard_benchmarks/{RUN}.tsv"
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("standard_benchmarks"),
    params:
        benchmarks=evaluation_settings("benchmarks"),
        inputs=own_evaluation("benchmarks"),
        batch=evaluation_setting("max_tokens_per_batch"),
        device=DEVICE,
        work=lambda wildcards: str(OUT / "checkpoints/benchmarks" / RUN).format(
            **wildcards
        ),
        code=source_hash("pipeline_lib.steps.standard_benchmarks"),
    script:
        "../scripts/standard_benchmarks.py"


# Which classifier may judge is known before the first model is there.
rule judge:
    input:
        manifest=data_of_prompts,
    output:
        OUT / "judges/{task}.json",
    log:
        OUT / "logs/judge/{task}.log",
    benchmark:
        OUT / "benchmarks/judge/{task}.tsv"
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **small(with_classifier=True),
    params:
        classifier=toxicity_setting("classifier"),
        prompts=toxicity_setting("prompts"),
        labelled=toxicity_setting("labelled"),
        inputs=own_evaluation("toxicity"),
        code=source_hash("pipeline_lib.steps.judge"),
    script:
        "../scripts/judge.py"


rule toxicity:
    input:
        model=OUT / "models" / RUN,
        judge=OUT / "judges/{task}.json",
        manifest=data_of_prompts,
    output:
        OUT / "evaluations" / RUN / "toxicity.jsonl",
        seal=OUT / "evaluations" / RUN / "toxicity.jsonl.sha256",
    log:
        OUT / f"logs/toxicity/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/toxicity/{RUN}.tsv"
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("toxicity"),
    params:
        toxicity=evaluation_settings("toxicity"),
        inputs=own_evaluation("toxicity"),
        as_released=evaluation_setting("as_released"),
        batch=evaluation_setting("max_tokens_per_batch"),
        compute=evaluation_setting("compute"),
        device=DEVICE,
        work=lambda wildcards: str(OUT / "checkpoints/toxicity" / RUN).format(
            **wildcards
        ),
        code=source_hash("pipeline_lib.steps.toxicity"),
    script:
        "../scripts/toxicity.py"


rule score:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        run=OUT / "training" / RUN / "run.json",
        records=OUT / "evaluations" / RUN / "records.jsonl",
        equal_retain=OUT / "evaluations" / RUN / "equal_retain.json",
        reference=reference_records,
        benchmarks=also_measured("benchmarks"),
        toxicity=also_measured("toxicity"),
        judge=judge_of,
    output:
        metrics=OUT / "evaluations" / RUN / "metrics.json",
    log:
        OUT / f"logs/score/{RUN}.log",
    benchmark:
        OUT / f"benchmarks/score/{RUN}.tsv"
    conda:
        "../../environment.yml"
    resources:
        **small(),
    params:
        identity=identity,
        code=source_hash("pipeline_lib.steps.score"),
    script:
        "../scripts/score.py"
