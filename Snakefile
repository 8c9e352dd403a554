"""Raw EEG, MEG and fMRI to checked Zarr artifacts and a report. The includes are in the order of the data."""

from snakemake.utils import min_version

min_version("9.15")


include: "rules/common.smk"
include: "rules/common_learning.smk"
include: "rules/common_synthesis.smk"
include: "rules/study.smk"
include: "rules/ingest.smk"
include: "rules/preprocess.smk"
include: "rules/tokenize.smk"
include: "rules/pretrain.smk"
include: "rules/evaluate.smk"
include: "rules/federate.smk"
include: "rules/synthesize.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


localrules:
    all,


rule all:
    """The report, the tables of the paper, the check that not too much was quarantined, and the RO-Crate."""
    default_target: True
    input:
        f"{RESULTS}/report.html",
        WRITTEN,
        get_exports,
        f"{RESULTS}/tables/quarantine_check.json",
        f"{RESULTS}/ro-crate-metadata.json",
