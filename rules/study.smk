rule simulate_site:
    """Simulate one site: a BIDS dataset with planted artefacts, and the truth beside it."""
    output:
        store=directory(f"{RESULTS}/simulated/{{site}}"),
        manifest=f"{RESULTS}/simulated/{{site}}.manifest.json",
    log:
        f"{LOGS}/simulate_site/{{site}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate_site/{{site}}.tsv"
    priority: 3
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        study=CONFIG.study.name,
        seed=CONFIG.study.seed,
        simulate=get_simulate,
        source=source_digest("neuroloom.study.simulate"),
    message:
        "simulate site {wildcards.site}"
    script:
        "../src/simulate_site.py"


rule index_study:
    """Write the recordings sheet from a BIDS dataset (`snakemake index_study`)."""
    output:
        CONFIG.study.recordings or f"{RESULTS}/recordings.tsv",
    log:
        f"{LOGS}/index_study/index_study.log",
    benchmark:
        f"{BENCHMARKS}/index_study/index_study.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        study=CONFIG.study.model_dump(),
        source=source_digest("neuroloom.study.bids"),
    message:
        "index the BIDS dataset of study.bids_root"
    script:
        "../src/index_study.py"
