rule align_pair:
    """Put the volumes of BOLD on the clock of the EEG that was recorded with it."""
    input:
        eeg=f"{RESULTS}/preprocess/{{pair}}_eeg.manifest.json",
        bold=f"{RESULTS}/preprocess/{{pair}}_bold.manifest.json",
    output:
        store=directory(f"{RESULTS}/synthesize/pairs/{{pair}}.zarr"),
        manifest=f"{RESULTS}/synthesize/pairs/{{pair}}.manifest.json",
        qc=f"{RESULTS}/synthesize/pairs/{{pair}}.parquet",
    log:
        f"{LOGS}/align_pair/{{pair}}.log",
    benchmark:
        f"{BENCHMARKS}/align_pair/{{pair}}.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        align=CONFIG.synthesize.model_dump(include={"start", "dummy_volumes", "window", "min_volumes"}),
        source=source_digest("neuroloom.synthesis.alignment"),
    message:
        "align {wildcards.pair}"
    script:
        "../src/align_pair.py"


rule find_ceiling:
    """What could be known of simulated BOLD, from its truth: attainable correlation and visible parcels."""
    input:
        aligned=get_pairs,
        eeg=get_pair_eeg,
        sites=get_truths,
    output:
        table=f"{RESULTS}/synthesize/ceiling.parquet",
    log:
        f"{LOGS}/find_ceiling/find_ceiling.log",
    benchmark:
        f"{BENCHMARKS}/find_ceiling/find_ceiling.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        rows=ROW_VALUES,
        synthesize=CONFIG.synthesize.model_dump(include={"window", "target"}),
        source=source_digest("neuroloom.synthesis.ceiling", "neuroloom.synthesis.jobs"),
    message:
        "find what could be known"
    script:
        "../src/find_ceiling.py"


rule synthesize_bold:
    """Predict BOLD from EEG by one model, in people (sites, sessions, volumes) it has not seen, and score it."""
    input:
        aligned=get_pairs,
        eeg=get_pair_eeg,
        model=get_encoder_of_synthesizer,
        ceiling=get_ceiling,
    output:
        **SYNTHESIS_FILES,
        store=directory(f"{SYNTHESIS}/{{synthesizer}}.zarr"),
        fitted=directory(f"{SYNTHESIS}/fitted/{{synthesizer}}"),
    log:
        f"{LOGS}/synthesize_bold/{{division}}-{{synthesizer}}.log",
    benchmark:
        f"{BENCHMARKS}/synthesize_bold/{{division}}-{{synthesizer}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(720),
    params:
        rows=ROW_VALUES,
        synthesize=get_synthesis,
        folds=get_synthesis_folds,
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.synthesis.jobs"),
    message:
        "predict BOLD by {wildcards.synthesizer}, other {wildcards.division}s"
    script:
        "../src/synthesize_bold.py"


rule collect_synthesis:
    """Gather the models of synthesis into tables: scores beside their nulls, parcels, connectivity, differences."""
    input:
        scores=get_syntheses,
        manifests=get_synthesis_manifests,
        qc=get_pair_rows,
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=SYNTHESIS_TABLES),
    log:
        f"{LOGS}/collect_synthesis/collect_synthesis.log",
    benchmark:
        f"{BENCHMARKS}/collect_synthesis/collect_synthesis.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        baseline=CONFIG.synthesize.baseline,
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.synthesis.tables"),
    message:
        "collect the models of synthesis"
    script:
        "../src/collect_synthesis.py"


rule export_bold:
    """Write predicted BOLD as 4-D images with sidecars (BIDS derivatives), which any fMRI tool opens."""
    input:
        manifest=f"{RESULTS}/synthesize/{CONFIG.synthesize.splits[0]}/{CONFIG.synthesize.export}.manifest.json",
        bold=get_pair_bold,
    output:
        folder=directory(f"{RESULTS}/synthesize/derivatives"),
    log:
        f"{LOGS}/export_bold/export_bold.log",
    benchmark:
        f"{BENCHMARKS}/export_bold/export_bold.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        rows=ROW_VALUES,
        voxel_mm=CONFIG.synthesize.export_mm,
        source=source_digest("neuroloom.synthesis.export", "neuroloom.synthesis.jobs"),
    message:
        "write predicted BOLD as images"
    script:
        "../src/export_bold.py"


rule predict_connectomes:
    """Predict fMRI connectomes from EEG connectomes across people, with nulls."""
    input:
        get_connectome_files,
    output:
        f"{RESULTS}/tables/connectomes.parquet",
    log:
        f"{LOGS}/predict_connectomes/predict_connectomes.log",
    benchmark:
        f"{BENCHMARKS}/predict_connectomes/predict_connectomes.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        folder=CONNECTOMES,
        n_draws=CONFIG.synthesize.connectomes.n_draws,
        seed=CONFIG.study.seed,
        source=source_digest("neuroloom.synthesis.connectomes", "neuroloom.study.connectome_files"),
    message:
        "predict connectomes"
    script:
        "../src/predict_connectomes.py"
