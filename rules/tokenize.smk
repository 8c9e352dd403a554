rule split_recordings:
    """Say which recordings train, validate and test in one fold, no person on two sides."""
    output:
        study=f"{RESULTS}/splits/fold-{{fold}}.json",
        sites=f"{RESULTS}/splits/sites-fold-{{fold}}.json",
    log:
        f"{LOGS}/split_recordings/fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/split_recordings/fold-{{fold}}.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        rows=ROW_VALUES,
        split=SPLIT,
        source=source_digest("neuroloom.evaluation.splits"),
    message:
        "split the recordings, fold {wildcards.fold}"
    script:
        "../src/split_recordings.py"


rule fit_tokenizer:
    """Fit one tokenizer on the training recordings of one fold."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        manifests=get_recordings("eeg", "meg", template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
        weights=get_imported_weights,
    output:
        f"{FOLD}/config.json",
        f"{FOLD}/card.json",
        model=f"{FOLD}/model.safetensors",
    log:
        f"{LOGS}/fit_tokenizer/{{tokenizer}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/fit_tokenizer/{{tokenizer}}-fold-{{fold}}.tsv"
    priority: 2
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        rows=ROW_VALUES,
        tokenizer=lambda wildcards: CONFIG.tokenize.tokenizers[wildcards.tokenizer].model_dump(),
        sfreq=CONFIG.preprocess.meeg.sfreq,
        study=CONFIG.study.model_dump(include={"name", "seed"}),
        dask=get_dask,
        source=get_tokenizer_source,
    message:
        "fit {wildcards.tokenizer}, fold {wildcards.fold}"
    script:
        "../src/fit_tokenizer.py"


rule encode_tokens:
    """Turn the recordings of one device into tokens, shard by shard."""
    input:
        model=f"{FOLD}/model.safetensors",
        manifests=get_device_manifests,
    output:
        store=directory(f"{FOLD}/{{device}}.zarr"),
        manifest=f"{FOLD}/{{device}}.manifest.json",
        lost=f"{FOLD}/{{device}}.lost.parquet",
    log:
        f"{LOGS}/encode_tokens/{{tokenizer}}-fold-{{fold}}-{{device}}.log",
    benchmark:
        f"{BENCHMARKS}/encode_tokens/{{tokenizer}}-fold-{{fold}}-{{device}}.tsv"
    priority: 2
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        overlap=lambda wildcards: getattr(CONFIG.tokenize.tokenizers[wildcards.tokenizer], "overlap", 0.0),
        dask=get_dask,
        source=get_tokenizer_source,
    message:
        "encode {wildcards.device} by {wildcards.tokenizer}, fold {wildcards.fold}"
    script:
        "../src/encode_tokens.py"


rule score_tokenizer:
    """Judge one tokenizer: what comes back, how codes are used, what they cost and what they tell."""
    input:
        split=f"{RESULTS}/splits/fold-{{fold}}.json",
        model=f"{FOLD}/model.safetensors",
        tokens=get_token_manifests,
        manifests=get_recordings("eeg", "meg", template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
    output:
        expand(f"{FOLD}/{{table}}.parquet", table=TOKEN_TABLES, allow_missing=True),
    log:
        f"{LOGS}/score_tokenizer/{{tokenizer}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/score_tokenizer/{{tokenizer}}-fold-{{fold}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        rows=ROW_VALUES,
        max_segments=CONFIG.tokenize.max_segments,
        n_permutations=CONFIG.tokenize.n_permutations,
        seed=CONFIG.study.seed,
        dask=get_dask,
        source=get_judging_source,
    message:
        "score {wildcards.tokenizer}, fold {wildcards.fold}"
    script:
        "../src/score_tokenizer.py"


rule collect_tokenizers:
    """Gather the scores of all tokenizers and folds into one table each."""
    input:
        get_tokenizer_tables,
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=[*TOKEN_TABLES, "token_quarantine"]),
    log:
        f"{LOGS}/collect_tokenizers/collect_tokenizers.log",
    benchmark:
        f"{BENCHMARKS}/collect_tokenizers/collect_tokenizers.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.tables"),
    message:
        "collect the scores of the tokenizers"
    script:
        "../src/collect_tokenizers.py"
