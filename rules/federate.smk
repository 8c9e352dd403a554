rule federate:
    """Fine-tune one arm at all sites, alone, together or federated, and score, time and attack it."""
    input:
        split=f"{RESULTS}/splits/sites-fold-{{fold}}.json",
        model=get_model_of_strategy,
        manifests=get_federated_manifests,
    output:
        **FEDERATION_FILES,
    log:
        f"{LOGS}/federate/{{strategy}}-fold-{{fold}}.log",
    benchmark:
        f"{BENCHMARKS}/federate/{{strategy}}-fold-{{fold}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(720),
    params:
        rows=ROW_VALUES,
        federate=get_federation,
        task=get_federated_task,
        ledgers=f"{RESULTS}/privacy",
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.federated.comparing"),
    message:
        "federate by {wildcards.strategy}, fold {wildcards.fold}"
    script:
        "../src/federate.py"


rule collect_federation:
    """Gather the arms into tables: scores, gains over every site alone, rounds, cost and attacks."""
    input:
        get_federations,
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=FEDERATION_TABLES),
    log:
        f"{LOGS}/collect_federation/collect_federation.log",
    benchmark:
        f"{BENCHMARKS}/collect_federation/collect_federation.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.federated.tables"),
    message:
        "collect the arms of the federation"
    script:
        "../src/collect_federation.py"
