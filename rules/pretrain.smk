def get_model(wildcards):
    """Settings of one model."""
    known = [*CONFIG.pretrain.models, *CONFIG.pretrain.sizes]
    if wildcards.model not in known:
        raise WorkflowError(f"no model {wildcards.model!r}; there are {', '.join(known)}")
    return CONFIG.pretrain.model(wildcards.model)


def get_model_settings(wildcards):
    """Settings of one model, as plain values."""
    return get_model(wildcards).model_dump()


def get_model_source(wildcards):
    """Digest of what one model runs."""
    return source_digest(f"neuroloom.models.{get_model(wildcards).kind}", "neuroloom.models.pretraining")


def get_tokenizer_of_model(wildcards):
    """The fitted tokenizer that a model reads through, if any."""
    name = get_model(wildcards).tokenizer
    return expand(f"{FOLD}/model.safetensors", tokenizer=name, fold=wildcards.fold) if name else []


def get_tokens_of_model(wildcards):
    """The tokens that a model is trained on, if it reads tokens."""
    name = get_model(wildcards).tokenizer
    template = f"{FOLD}/{{device}}.manifest.json"
    return expand(template, tokenizer=name, fold=wildcards.fold, device=DEVICES) if name else []


def get_weights_of_model(wildcards):
    """Weights that are taken instead of training, if the config names some."""
    folder = get_model(wildcards).weights
    return [f"{folder}/model.safetensors", f"{folder}/config.json"] if folder else []


rule pretrain_model:
    """Pretrain one model on the training recordings of one fold, without labels."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        manifests=get_recordings("eeg", "meg", template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
        tokenizer=get_tokenizer_of_model,
        tokens=get_tokens_of_model,
        weights=get_weights_of_model,
    output:
        f"{MODEL}/config.json",
        f"{MODEL}/card.json",
        f"{MODEL}/metrics.parquet",
        model=f"{MODEL}/model.safetensors",
    log:
        f"{LOGS}/pretrain_model/{{model}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain_model/{{model}}-fold-{{fold}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=1440,
    params:
        rows=ROW_VALUES,
        model=get_model_settings,
        sfreq=CONFIG.preprocess.meeg.sfreq,
        study=CONFIG.study.model_dump(include={"name", "seed"}),
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
        mem_mb=2000,
        runtime=10,
    params:
        sweep=CONFIG.pretrain.sizes,
        source=source_digest("neuroloom.models.curves"),
    message:
        "collect the training curves"
    script:
        "../src/collect_pretraining.py"
