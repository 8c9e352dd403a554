rule ingest_meeg:
    """Read one EEG or MEG recording, make its names, units and positions certain, and store it."""
    input:
        raw=get_raw,
    output:
        store=directory(f"{RESULTS}/ingest/{{recording}}.zarr"),
        manifest=f"{RESULTS}/ingest/{{recording}}.manifest.json",
    log:
        f"{LOGS}/ingest_meeg/{{recording}}.log",
    benchmark:
        f"{BENCHMARKS}/ingest_meeg/{{recording}}.tsv"
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
        path=get_path,
        dataset=get_source,
        ingest=CONFIG.ingest.model_dump(),
        source=source_digest("neuroloom.signals.ingest", "neuroloom.signals.reading"),
    message:
        "ingest {wildcards.recording}"
    script:
        "../src/ingest_meeg.py"


rule ingest_bold:
    """Read one BOLD series or parcel table, check TR, volumes and affine, and store it."""
    input:
        raw=get_raw,
    output:
        store=directory(f"{RESULTS}/ingest/{{recording}}.zarr"),
        manifest=f"{RESULTS}/ingest/{{recording}}.manifest.json",
    log:
        f"{LOGS}/ingest_bold/{{recording}}.log",
    benchmark:
        f"{BENCHMARKS}/ingest_bold/{{recording}}.tsv"
    wildcard_constraints:
        recording=r"[A-Za-z0-9_-]+_bold",
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        path=get_path,
        dataset=get_source,
        source=source_digest("neuroloom.bold.reading"),
    message:
        "ingest {wildcards.recording}"
    script:
        "../src/ingest_bold.py"
