"""Tables of the whole study: recordings, QC, cleaning, what was found, run times; and which tables there are."""


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


# the tables of each part of a study, if it has that part
PARTS = [
    (SIMULATED, rules.score_cleaning.output),
    (CONFIG.tokenize.use, rules.collect_tokenizers.output),
    (MODELS, rules.collect_pretraining.output),
    (TASKS, rules.collect_evaluation.output),
    (FEDERATED, rules.collect_federation.output),
    (SYNTHESES, rules.collect_synthesis.output),
    (CONNECTOMES, rules.predict_connectomes.output),
]


rule collect_headline:
    """What the study found: one row for each question, beside its null and its baseline."""
    input:
        [path for used, tables in PARTS if used for path in tables],
    output:
        f"{RESULTS}/tables/headline.parquet",
    log:
        f"{LOGS}/collect_headline/collect_headline.log",
    benchmark:
        f"{BENCHMARKS}/collect_headline/collect_headline.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.headline"),
    message:
        "say what was found"
    script:
        "../src/collect_headline.py"


rule collect_runtime:
    """Gather the time and memory of the jobs, and what more of them at a time would take."""
    input:
        get_benchmarks,
    output:
        jobs=f"{RESULTS}/tables/jobs.parquet",
        runtime=f"{RESULTS}/tables/runtime.parquet",
        schedule=f"{RESULTS}/tables/schedule.parquet",
    log:
        f"{LOGS}/collect_runtime/collect_runtime.log",
    benchmark:
        f"{BENCHMARKS}/collect_runtime/collect_runtime.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.runtime"),
    message:
        "collect run times"
    script:
        "../src/collect_runtime.py"


# every table of this study by name
TABLES = {
    Path(path).stem: path
    for path in [
        *rules.collect_tables.output,
        *[path for used, tables in PARTS if used for path in tables],
        *rules.collect_headline.output,
        *rules.collect_runtime.output,
    ]
}
