rule preprocess_meeg:
    """Take scanner, room, mains, eyes and bad channels out of one EEG or MEG recording, and resample it."""
    input:
        manifest=f"{RESULTS}/ingest/{{recording}}.manifest.json",
        empty_room=get_empty_room,
        head=get_head_files,
    output:
        store=directory(f"{RESULTS}/preprocess/{{recording}}.zarr"),
        manifest=f"{RESULTS}/preprocess/{{recording}}.manifest.json",
        qc=f"{RESULTS}/qc/{{recording}}.parquet",
        figure=report(f"{RESULTS}/qc/{{recording}}.png", category="QC", caption="../resources/captions/qc_meeg.rst"),
    log:
        f"{LOGS}/preprocess_meeg/{{recording}}.log",
    benchmark:
        f"{BENCHMARKS}/preprocess_meeg/{{recording}}.tsv"
    wildcard_constraints:
        recording=r"[A-Za-z0-9_-]+_(eeg|meg)",
    priority: 1
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        meeg=CONFIG.preprocess.meeg.model_dump(),
        window=CONFIG.ingest.window,
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.signals.preprocess", "neuroloom.signals.site", "neuroloom.figures.meeg_qc"),
    message:
        "preprocess {wildcards.recording}"
    script:
        "../src/preprocess_meeg.py"


rule preprocess_bold:
    """Realign, mask, parcellate and clean one BOLD series."""
    input:
        manifest=f"{RESULTS}/ingest/{{recording}}.manifest.json",
    output:
        store=directory(f"{RESULTS}/preprocess/{{recording}}.zarr"),
        manifest=f"{RESULTS}/preprocess/{{recording}}.manifest.json",
        qc=f"{RESULTS}/qc/{{recording}}.parquet",
        figure=report(f"{RESULTS}/qc/{{recording}}.png", category="QC", caption="../resources/captions/qc_bold.rst"),
    log:
        f"{LOGS}/preprocess_bold/{{recording}}.log",
    benchmark:
        f"{BENCHMARKS}/preprocess_bold/{{recording}}.tsv"
    wildcard_constraints:
        recording=r"[A-Za-z0-9_-]+_bold",
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        bold=CONFIG.preprocess.bold.model_dump(),
        dataset=get_source,
        source=source_digest("neuroloom.bold.preprocess", "neuroloom.figures.bold_qc"),
    message:
        "preprocess {wildcards.recording}"
    script:
        "../src/preprocess_bold.py"
