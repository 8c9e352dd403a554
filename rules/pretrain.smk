rule pretrain_model:
    """Pretrain one model on the training recordings of one fold, without labels."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        manifests=get_recordings("eeg", "meg", template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
        tokenizer=get_tokenizer_of_model,
        tokens=get_tokens_of_model,
        weights=get_weights_of_model,
    output:
        expand(f"{MODEL}/{{file}}", file=["config.json", "card.json", "metrics.parquet"], allow_missing=True),
        model=f"{MODEL}/model.safetensors",
    log:
        f"{LOGS}/pretrain_model/{{model}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain_model/{{model}}-fold-{{fold}}.tsv"
    priority: 2
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(1440),
    params:
        rows=ROW_VALUES,
        model=get_model_settings,
        sfreq=CONFIG.preprocess.meeg.sfreq,
        study=CONFIG.study.model_dump(include={"name", "seed"}),
        dask=get_dask,
        source=get_model_source,
    message:
        "pretrain {wildcards.model}, fold {wildcards.fold}"
    script:
        "../src/pretrain_model.py"


rule collect_pretraining:
    """Gather the training curves and cards of all models into one table each."""
    input:
        expand(
            f"{MODEL}/{{file}}",
            model=MODELS,
            fold=CONFIG.split.folds,
            file=["metrics.parquet", "card.json"],
        ),
    output:
        curves=f"{RESULTS}/tables/pretraining.parquet",
        models=f"{RESULTS}/tables/models.parquet",
    log:
        f"{LOGS}/collect_pretraining/collect_pretraining.log",
    benchmark:
        f"{BENCHMARKS}/collect_pretraining/collect_pretraining.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        sweep=CONFIG.pretrain.sizes,
        source=source_digest("neuroloom.models.curves"),
    message:
        "collect the training curves"
    script:
        "../src/collect_pretraining.py"
