"""Input functions of what learns: tokenizers, models and the tasks that they are asked."""

FEDERATED = CONFIG.federate.use
FEDERATION = f"{RESULTS}/federate/fold-{{fold}}"
FEDERATION_KINDS = ["scores", "subjects", "rounds", "attacks"]
FEDERATION_FILES = {kind: f"{FEDERATION}/{{strategy}}.{kind}.parquet" for kind in FEDERATION_KINDS}
FEDERATION_TABLES = [
    "federation",
    "federation_summary",
    "federation_gains",
    "federation_rounds",
    "federation_cost",
    "federation_attacks",
]


def get_dask(wildcards, threads, resources):
    """Where passes over a corpus run; what follows from resources reruns no rule, and results are the same anywhere."""
    size = {"threads": threads, "mem_mb": resources.mem_mb, "runtime": resources.runtime}
    return {**CONFIG.dask.model_dump(), **size, "logs": f"{LOGS}/dask"}


def get_judging_source(wildcards):
    """Digest of what one tokenizer is judged by."""
    return [get_tokenizer_source(wildcards), source_digest("neuroloom.tokenizers.judging")]


def get_imported_weights(wildcards):
    """Weights that are taken instead of training, if the config names some."""
    folder = getattr(CONFIG.tokenize.tokenizers[wildcards.tokenizer], "weights", None)
    return [f"{folder}/model.safetensors", f"{folder}/config.json"] if folder else []


def get_token_manifests(wildcards):
    """The tokens of all devices by one tokenizer."""
    return expand(f"{FOLD}/{{device}}.manifest.json", device=DEVICES, **wildcards)


def get_tokenizer_tables(wildcards):
    """Score tables of all tokenizers and folds, and what each device lost."""
    files = [f"{table}.parquet" for table in TOKEN_TABLES] + [f"{device}.lost.parquet" for device in DEVICES]
    return expand(f"{FOLD}/{{file}}", tokenizer=CONFIG.tokenize.use, fold=CONFIG.split.folds, file=files)


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


def get_evaluation_source(wildcards):
    """Digest of what one model is judged by."""
    return [get_model_source(wildcards), source_digest("neuroloom.evaluation.judging")]


def get_task(wildcards):
    """One task, as plain values."""
    if wildcards.task not in CONFIG.evaluate.tasks:
        raise WorkflowError(f"no task {wildcards.task!r}; there are {', '.join(CONFIG.evaluate.tasks)}")
    return CONFIG.evaluate.tasks[wildcards.task].model_dump()


def get_task_manifests(wildcards):
    """The cleaned recordings that a task may ask."""
    get_task(wildcards)  # an unknown name is an error that lists the known ones
    return manifests_of_task(wildcards.task)


def manifests_of_task(name):
    """Manifests of the recordings that a task may ask."""
    task = CONFIG.evaluate.tasks[name]
    rows = [row for row in ROWS.values() if row.modality == task.modality and row.study in (task.studies or STUDIES)]
    return expand(f"{RESULTS}/preprocess/{{recording}}.manifest.json", recording=[row.recording for row in rows])


def get_evaluations(wildcards):
    """Score tables of all models and baselines in all tasks and folds."""
    readers = [*CONFIG.pretrain.use, "baselines"]
    tables = [f"{reader}{kind}.parquet" for reader in readers for kind in ("", ".subjects", ".audits")]
    return expand(f"{EVALUATION}/{{file}}", task=TASKS, fold=CONFIG.split.folds, file=tables)


def get_strategy(wildcards):
    """Settings of one arm of the federation."""
    if wildcards.strategy not in CONFIG.federate.strategies:
        known = ", ".join(CONFIG.federate.strategies)
        raise WorkflowError(f"no strategy {wildcards.strategy!r}; there are {known}")
    return CONFIG.federate.strategies[wildcards.strategy]


def get_federation(wildcards):
    """The federation with one arm, as plain values."""
    arms = {wildcards.strategy: get_strategy(wildcards).model_dump()}
    return {**CONFIG.federate.model_dump(), "use": [wildcards.strategy], "strategies": arms}


def get_federated_task(wildcards):
    """The task of the federation, as plain values."""
    return CONFIG.evaluate.tasks[CONFIG.federate.task].model_dump()


def get_federated_manifests(wildcards):
    """The cleaned recordings of the task of the federation."""
    return manifests_of_task(CONFIG.federate.task)


def get_model_of_strategy(wildcards):
    """The pretrained weights that an arm starts from, if any."""
    name = get_strategy(wildcards).network
    return expand(f"{MODEL}/model.safetensors", model=name, fold=wildcards.fold) if name in MODELS else []


def get_federations(wildcards):
    """Tables of all arms and folds."""
    return expand(list(FEDERATION_FILES.values()), strategy=FEDERATED, fold=CONFIG.split.folds)


def get_benchmarks(wildcards):
    """Benchmark files of every job of the study that its run time and memory are told of."""
    sites = CONFIG.simulate.sites if SIMULATED else []
    files = [f"{BENCHMARKS}/simulate_site/{site}.tsv" for site in sites]
    for stage in ("ingest", "preprocess"):
        files += [f"{BENCHMARKS}/{stage}_meeg/{name}.tsv" for name in recordings("eeg", "meg")]
        files += [f"{BENCHMARKS}/{stage}_bold/{name}.tsv" for name in recordings("bold")]
    for fold in CONFIG.split.folds:
        for name in CONFIG.tokenize.use:
            files += [f"{BENCHMARKS}/{rule}/{name}-fold-{fold}.tsv" for rule in ("fit_tokenizer", "score_tokenizer")]
            files += [f"{BENCHMARKS}/encode_tokens/{name}-fold-{fold}-{device}.tsv" for device in DEVICES]
        files += [f"{BENCHMARKS}/pretrain_model/{name}-fold-{fold}.tsv" for name in MODELS]
        for task in TASKS:
            readers = CONFIG.pretrain.use
            files += [f"{BENCHMARKS}/evaluate_model/{task}-{name}-fold-{fold}.tsv" for name in readers]
            files += [f"{BENCHMARKS}/evaluate_baselines/{task}-fold-{fold}.tsv"]
        files += [f"{BENCHMARKS}/federate/{name}-fold-{fold}.tsv" for name in CONFIG.federate.use]
    files += [f"{BENCHMARKS}/align_pair/{name}.tsv" for name in PAIRS]
    files += [f"{BENCHMARKS}/find_ceiling/find_ceiling.tsv"] if SIMULATED and SYNTHESES else []
    files += [f"{BENCHMARKS}/synthesize_bold/{division}-{name}.tsv" for division, name in SYNTHESES]
    return files
