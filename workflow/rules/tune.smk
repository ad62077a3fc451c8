# Equal-budget tuning: the same number of trials for every row, and the settings chosen from them.
# A trial is known from the suite alone, so that a changed range reruns only what it changes.
localrules:
    choose,


rule trial:
    input:
        manifest=OUT / "data/{task}/manifest.json",
        parent=OUT / "models/{task}/{model}/original/none/seed{seed}",
        reference=trial_reference,
    output:
        OUT / "tuning" / TRIAL / "seed{seed}.json",
    log:
        OUT / f"logs/trial/{TRIAL}/seed{{seed}}.log",
    benchmark:
        OUT / f"benchmarks/trial/{TRIAL}/seed{{seed}}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, SUITE.objectives)),
        trial="[0-9]+",
    conda:
        "../../environment.yml"
    threads: RESOURCES.threads
    resources:
        **asked("trial"),
    params:
        identity=identity,
        tuned=lambda wildcards: trial_of(wildcards).tuned,
        objective=lambda wildcards: trial_of(wildcards).objective,
        optimizer=lambda wildcards: trial_of(wildcards).optimizer,
        unlearn=lambda wildcards: tuned_row(wildcards).unlearn,
        evaluation=lambda wildcards: EVALUATIONS[wildcards.task].model_dump(
            include={"max_records", "max_tokens_per_batch"}
        ),
        max_length=lambda wildcards: SUITE.models[wildcards.model].max_length,
        device=DEVICE,
        checkpoint=lambda wildcards: str(
            OUT / "checkpoints/tuning" / TRIAL / "seed{seed}"
        ).format(**wildcards),
        code=source_hash("pipeline_lib.steps.trial"),
    script:
        "../scripts/trial.py"


rule choose:
    input:
        trials=trials_of_row,
        original=tuning_originals,
    output:
        OUT / "tuning" / ROW / "chosen.json",
    log:
        OUT / f"logs/choose/{ROW}.log",
    benchmark:
        OUT / f"benchmarks/choose/{ROW}.tsv"
    wildcard_constraints:
        method="|".join(map(re.escape, SUITE.objectives)),
    conda:
        "../../environment.yml"
    resources:
        **small(),
    params:
        seeds=lambda wildcards: SUITE.tune.seeds,
        select=lambda wildcards: SUITE.tune.select.model_dump(),
        ranges=lambda wildcards: tuned_row(wildcards).ranges,
        code=source_hash("pipeline_lib.steps.choose"),
    script:
        "../scripts/choose.py"
