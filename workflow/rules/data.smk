localrules:
    describe_suite,


rule describe_suite:
    output:
        suite=OUT / "suite.yaml",
        runs=OUT / "runs.json",
    log:
        OUT / "logs/describe_suite.log",
    benchmark:
        OUT / "benchmarks/describe_suite.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=200,
        runtime=5,
    params:
        suite=lambda wildcards: dump_suite(SUITE),
        runs=lambda wildcards: json.dumps(run_labels(SUITE), indent=2),
    script:
        "../scripts/describe_suite.py"


rule prepare_data:
    output:
        manifest=OUT / "data/{task}/manifest.json",
    log:
        OUT / "logs/prepare_data/{task}.log",
    benchmark:
        OUT / "benchmarks/prepare_data/{task}.tsv"
    conda:
        "../../environment.yml"
    resources:
        **small(),
    params:
        task=lambda wildcards: SUITE.tasks[wildcards.task].data_settings(),
        inputs=own_data,
        code=lambda wildcards: [
            source_hash("pipeline_lib.steps.prepare_data"),
            source_hash(f"pipeline_lib.tasks.{SUITE.tasks[wildcards.task].source}"),
        ],
    script:
        "../scripts/prepare_data.py"
