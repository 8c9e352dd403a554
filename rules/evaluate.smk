rule evaluate_model:
    """Judge one pretrained model in one task: frozen and fine-tuned, beside the same network from scratch."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        model=f"{MODEL}/model.safetensors",
        manifests=get_task_manifests,
    output:
        scores=f"{EVALUATION}/{{model}}.parquet",
        subjects=f"{EVALUATION}/{{model}}.subjects.parquet",
        audits=f"{EVALUATION}/{{model}}.audits.parquet",
    log:
        f"{LOGS}/evaluate_model/{{task}}-{{model}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_model/{{task}}-{{model}}-fold-{{fold}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(720),
    params:
        rows=ROW_VALUES,
        task=get_task,
        evaluate=CONFIG.evaluate.model_dump(exclude={"use", "tasks"}),
        seed=CONFIG.study.seed,
        source=get_evaluation_source,
    message:
        "evaluate {wildcards.model} in {wildcards.task}, fold {wildcards.fold}"
    script:
        "../src/evaluate_model.py"


rule evaluate_baselines:
    """Judge the classical and small-network readers in one task."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        manifests=get_task_manifests,
    output:
        scores=f"{EVALUATION}/baselines.parquet",
        subjects=f"{EVALUATION}/baselines.subjects.parquet",
        audits=f"{EVALUATION}/baselines.audits.parquet",
    log:
        f"{LOGS}/evaluate_baselines/{{task}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_baselines/{{task}}-fold-{{fold}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(360),
    params:
        rows=ROW_VALUES,
        task=get_task,
        evaluate=CONFIG.evaluate.model_dump(exclude={"use", "tasks"}),
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.evaluation.judging"),
    message:
        "evaluate the baselines in {wildcards.task}, fold {wildcards.fold}"
    script:
        "../src/evaluate_baselines.py"


rule collect_evaluation:
    """Gather all scores into tables, with false discoveries and the shares of variance."""
    input:
        get_evaluations,
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=EVALUATION_TABLES),
    log:
        f"{LOGS}/collect_evaluation/collect_evaluation.log",
    benchmark:
        f"{BENCHMARKS}/collect_evaluation/collect_evaluation.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.evaluation.tables"),
    message:
        "collect the scores of the models"
    script:
        "../src/collect_evaluation.py"
