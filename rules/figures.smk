SYNTHESIS_FIGURES = [
    "scores",
    "differences",
    "maps",
    "traces",
    "nulls",
    "connectivity",
    "attribution",
    "calibration",
]


rule plot_cleaning:
    """Draw where cleaning loses what its bounds ask for."""
    input:
        f"{RESULTS}/tables/cleaning_curves.parquet",
    output:
        report(
            f"{RESULTS}/figures/cleaning_curves.png",
            category="Cleaning",
            caption="../resources/captions/cleaning_curves.rst",
        ),
    log:
        f"{LOGS}/plot_cleaning/plot_cleaning.log",
    benchmark:
        f"{BENCHMARKS}/plot_cleaning/plot_cleaning.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.cleaning_plots"),
    message:
        "plot the cleaning"
    script:
        "../src/plot_cleaning.py"


rule plot_tokenizers:
    """Draw the comparison of the tokenizers from its tables."""
    input:
        rules.collect_tokenizers.output,
    output:
        report(
            expand(f"{RESULTS}/figures/tokens_{{figure}}.png", figure=TOKEN_FIGURES),
            category="Tokenizers",
            caption="../resources/captions/tokens.rst",
        ),
    log:
        f"{LOGS}/plot_tokenizers/plot_tokenizers.log",
    benchmark:
        f"{BENCHMARKS}/plot_tokenizers/plot_tokenizers.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.token_probes", "neuroloom.figures.token_spectra"),
    message:
        "plot the tokenizers"
    script:
        "../src/plot_tokenizers.py"


rule plot_models:
    """Draw what the models learned in pretraining, and what size and data are worth."""
    input:
        rules.collect_pretraining.output,
    output:
        report(
            expand(f"{RESULTS}/figures/models_{{figure}}.png", figure=MODEL_FIGURES),
            category="Foundation models",
            caption="../resources/captions/models.rst",
        ),
    log:
        f"{LOGS}/plot_models/plot_models.log",
    benchmark:
        f"{BENCHMARKS}/plot_models/plot_models.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.model_plots"),
    message:
        "plot the pretraining"
    script:
        "../src/plot_models.py"


rule plot_evaluation:
    """Draw models and baselines in all tasks, beside chance, and what else could have answered."""
    input:
        rules.collect_evaluation.output,
    output:
        report(
            expand(f"{RESULTS}/figures/evaluation_{{figure}}.png", figure=EVALUATION_FIGURES),
            category="Evaluation",
            caption="../resources/captions/evaluation.rst",
        ),
    log:
        f"{LOGS}/plot_evaluation/plot_evaluation.log",
    benchmark:
        f"{BENCHMARKS}/plot_evaluation/plot_evaluation.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.evaluation_audits"),
    message:
        "plot the evaluation"
    script:
        "../src/plot_evaluation.py"


rule plot_federation:
    """Draw the arms of the federation: scores, rounds, gains over every site alone, cost and attacks."""
    input:
        rules.collect_federation.output,
    output:
        report(
            expand(f"{RESULTS}/figures/federation_{{figure}}.png", figure=FEDERATION_FIGURES),
            category="Federation",
            caption="../resources/captions/federation.rst",
        ),
    log:
        f"{LOGS}/plot_federation/plot_federation.log",
    benchmark:
        f"{BENCHMARKS}/plot_federation/plot_federation.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.federation_audits"),
    message:
        "plot the federation"
    script:
        "../src/plot_federation.py"


rule plot_synthesis:
    """Draw predicted BOLD: scores beside nulls, differences, maps, traces, connectivity, attribution, calibration."""
    input:
        rules.collect_synthesis.output,
    output:
        report(
            expand(f"{RESULTS}/figures/synthesis_{{figure}}.png", figure=SYNTHESIS_FIGURES),
            category="EEG to fMRI",
            caption="../resources/captions/synthesis.rst",
        ),
    log:
        f"{LOGS}/plot_synthesis/plot_synthesis.log",
    benchmark:
        f"{BENCHMARKS}/plot_synthesis/plot_synthesis.tsv"
    conda:
        "../envs/signal.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(10),
    params:
        source=source_digest("neuroloom.figures.synthesis_attribution", "neuroloom.figures.synthesis_connectivity"),
    message:
        "plot the synthesis"
    script:
        "../src/plot_synthesis.py"
