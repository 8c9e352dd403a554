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
        mem_mb=2000,
        runtime=10,
    params:
        source=source_digest("neuroloom.figures.token_probes", "neuroloom.figures.token_spectra"),
    message:
        "plot the tokenizers"
    script:
        "../src/plot_tokenizers.py"
