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


rule render_report:
    """One self-contained HTML page: study, QC, quarantine, provenance, run time and memory."""
    input:
        tables=list(TABLES.values()),
        drawn=DRAWN,
        figures=get_recordings(*MODALITIES, template=f"{RESULTS}/qc/{{recording}}.png"),
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
        source=[source_digest("neuroloom.figures.report"), resource_digest("report")],
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
