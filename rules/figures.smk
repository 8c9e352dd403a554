rule plot_tokenizers:
    """Draw the comparison of the tokenizers from its tables."""
    input:
        rules.collect_tokenizers.output,
    output:
        reconstruction=report(
            f"{RESULTS}/figures/tokens_reconstruction.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_reconstruction.rst",
        ),
        rate_distortion=report(
            f"{RESULTS}/figures/tokens_rate_distortion.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_rate_distortion.rst",
        ),
        code_usage=report(
            f"{RESULTS}/figures/tokens_code_usage.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_code_usage.rst",
        ),
        atlas=report(
            f"{RESULTS}/figures/tokens_atlas.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_atlas.rst",
        ),
        examples=report(
            f"{RESULTS}/figures/tokens_examples.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_examples.rst",
        ),
        probes=report(
            f"{RESULTS}/figures/tokens_probes.png",
            category="Tokenizers",
            caption="../resources/captions/tokens_probes.rst",
        ),
    log:
        f"{LOGS}/plot_tokenizers/plot_tokenizers.log",
    benchmark:
        f"{BENCHMARKS}/plot_tokenizers/plot_tokenizers.tsv"
    conda:
        "../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        source=source_digest("neuroloom.figures.token_probes", "neuroloom.figures.token_spectra"),
    message:
        "plot the tokenizers"
    script:
        "../src/plot_tokenizers.py"
