rule collect_tables:
    """Gather the study's recordings, QC rows and quarantine into one table each."""
    input:
        manifests=get_recordings(*MODALITIES, template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
        qc=get_recordings(*MODALITIES, template=f"{RESULTS}/qc/{{recording}}.parquet"),
    output:
        recordings=f"{RESULTS}/tables/recordings.parquet",
        qc_meeg=f"{RESULTS}/tables/qc_meeg.parquet",
        qc_bold=f"{RESULTS}/tables/qc_bold.parquet",
        quarantine=f"{RESULTS}/tables/quarantine.parquet",
    log:
        f"{LOGS}/collect_tables/collect_tables.log",
    benchmark:
        f"{BENCHMARKS}/collect_tables/collect_tables.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        rows=ROW_VALUES,
        source=source_digest("neuroloom.tables"),
    message:
        "collect tables"
    script:
        "../src/collect_tables.py"


rule score_cleaning:
    """Score the cleaning of a simulated study against what was planted."""
    input:
        sites=expand(f"{RESULTS}/simulated/{{site}}.manifest.json", site=CONFIG.simulate.sites),
        ingested=get_recordings(*MODALITIES, template=f"{RESULTS}/ingest/{{recording}}.manifest.json"),
        cleaned=get_recordings(*MODALITIES, template=f"{RESULTS}/preprocess/{{recording}}.manifest.json"),
    output:
        scores=f"{RESULTS}/tables/cleaning.parquet",
        curves=f"{RESULTS}/tables/cleaning_curves.parquet",
    log:
        f"{LOGS}/score_cleaning/score_cleaning.log",
    benchmark:
        f"{BENCHMARKS}/score_cleaning/score_cleaning.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        rows=ROW_VALUES,
        meeg=CONFIG.preprocess.meeg.model_dump(),
        bold=CONFIG.preprocess.bold.model_dump(),
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.study.scoring"),
    message:
        "score the cleaning against the truth"
    script:
        "../src/score_cleaning.py"


rule check_quarantine:
    """Stop the run when more recordings are quarantined than the config allows."""
    input:
        quarantine=f"{RESULTS}/tables/quarantine.parquet",
        recordings=f"{RESULTS}/tables/recordings.parquet",
        report=f"{RESULTS}/report.html",
    output:
        f"{RESULTS}/tables/quarantine_check.json",
    log:
        f"{LOGS}/check_quarantine/check_quarantine.log",
    benchmark:
        f"{BENCHMARKS}/check_quarantine/check_quarantine.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        max_fraction=CONFIG.quarantine.max_fraction,
        source=source_digest("neuroloom.tables"),
    message:
        "check the number of quarantined recordings"
    script:
        "../src/check_quarantine.py"


# what is part of this study, its tables and its figures
SECTIONS = [
    (SIMULATED, rules.score_cleaning.output, rules.plot_cleaning.output),
    (CONFIG.tokenize.use, rules.collect_tokenizers.output, rules.plot_tokenizers.output),
    (MODELS, rules.collect_pretraining.output, rules.plot_models.output),
    (TASKS, rules.collect_evaluation.output, rules.plot_evaluation.output),
    (FEDERATED, rules.collect_federation.output, rules.plot_federation.output),
    (SYNTHESES, rules.collect_synthesis.output, rules.plot_synthesis.output),
    (CONNECTOMES, rules.predict_connectomes.output, []),
]


rule render_report:
    """One self-contained HTML page: study, QC, quarantine, provenance, run time and memory."""
    input:
        tables=[*rules.collect_tables.output, *[path for used, tables, _ in SECTIONS if used for path in tables]],
        drawn=[path for used, _, figures in SECTIONS if used for path in figures],
        figures=get_recordings(*MODALITIES, template=f"{RESULTS}/qc/{{recording}}.png"),
        benchmarks=get_benchmarks,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/render_report/render_report.log",
    benchmark:
        f"{BENCHMARKS}/render_report/render_report.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        config=CONFIG.model_dump(),
        source=source_digest("neuroloom.figures.report"),
    message:
        "render the report"
    script:
        "../src/render_report.py"


rule describe_study:
    """Describe the study's files and jobs as an RO-Crate, for archives and for tools that know nothing of us."""
    input:
        f"{RESULTS}/report.html",
        f"{RESULTS}/tables/quarantine_check.json",
        get_exports,
    output:
        f"{RESULTS}/ro-crate-metadata.json",
    log:
        f"{LOGS}/describe_study/describe_study.log",
    benchmark:
        f"{BENCHMARKS}/describe_study/describe_study.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        study=CONFIG.study.name,
        source=source_digest("neuroloom.crate"),
    message:
        "describe the study"
    script:
        "../src/describe_study.py"
