"""Path templates and input functions of EEG-to-fMRI synthesis."""

from neuroloom.synthesis.pairs import find_pairs

SYNTHESIS = f"{RESULTS}/synthesize/{{division}}"
SYNTHESIS_KINDS = ["parcels", "scans", "connectivity", "traces", "attribution"]
SYNTHESIS_FILES = {
    "manifest": f"{SYNTHESIS}/{{synthesizer}}.manifest.json",
    **{kind: f"{SYNTHESIS}/{{synthesizer}}.{kind}.parquet" for kind in SYNTHESIS_KINDS},
}
SYNTHESIS_TABLES = [
    "synthesis",
    "synthesis_summary",
    "synthesis_parcels",
    "synthesis_differences",
    "synthesis_scans",
    "synthesis_connectivity",
    "synthesis_traces",
    "synthesis_attribution",
    "pairs",
    "pair_quarantine",
]
EXPORTED = CONFIG.synthesize.export if CONFIG.synthesize.use else None
PAIRS = [pair.name for pair in find_pairs(list(ROWS.values()))] if CONFIG.synthesize.use else []
SYNTHESES = CONFIG.synthesize.runs if PAIRS else []
CONNECTOMES = CONFIG.synthesize.connectomes.folder and str(
    Path(CONFIG.study.root_path) / CONFIG.synthesize.connectomes.folder
)


def of_pairs(template):
    """One file for each pair of EEG and BOLD."""
    if not PAIRS:
        raise WorkflowError("no EEG and BOLD of one person, task and run in the sheet: synthesize.use has to be []")
    return expand(template, pair=PAIRS)


def get_pairs(wildcards):
    """The aligned pairs of EEG and BOLD."""
    return of_pairs(f"{RESULTS}/synthesize/pairs/{{pair}}.manifest.json")


def get_pair_rows(wildcards):
    """What was found when the pairs were aligned, or why one cannot be used."""
    return of_pairs(f"{RESULTS}/synthesize/pairs/{{pair}}.parquet")


def get_pair_eeg(wildcards):
    """The cleaned EEG of the pairs."""
    return of_pairs(f"{RESULTS}/preprocess/{{pair}}_eeg.manifest.json")


def get_pair_bold(wildcards):
    """The cleaned BOLD of the pairs."""
    return of_pairs(f"{RESULTS}/preprocess/{{pair}}_bold.manifest.json")


def get_truths(wildcards):
    """The simulated datasets, which hold the truth."""
    return expand(f"{RESULTS}/simulated/{{site}}.manifest.json", site=CONFIG.simulate.sites)


def get_ceiling(wildcards):
    """What could be known, where the truth is."""
    return [f"{RESULTS}/synthesize/ceiling.parquet"] if SIMULATED else []


def get_synthesizer(wildcards):
    """Settings of one model of synthesis."""
    if wildcards.synthesizer not in CONFIG.synthesize.models:
        known = ", ".join(CONFIG.synthesize.models)
        raise WorkflowError(f"no model of synthesis {wildcards.synthesizer!r}; there are {known}")
    return CONFIG.synthesize.models[wildcards.synthesizer]


def get_synthesis(wildcards):
    """The synthesis by one model, as plain values."""
    name = wildcards.synthesizer
    models = {name: get_synthesizer(wildcards).model_dump()}
    exported = name if name == CONFIG.synthesize.export else None
    alone = {"use": [name], "models": models, "baseline": name, "export": exported}
    return {**CONFIG.synthesize.model_dump(), **alone}


def get_synthesis_folds(wildcards):
    """How many parts people are divided into, and which are tested in turn; an encoder knows who is tested in its own."""
    model = get_synthesizer(wildcards)
    encoded = getattr(model, "encoder", None) and wildcards.division == "subject"
    return [CONFIG.split.n_folds, CONFIG.split.folds[:1] if encoded else model.folds or CONFIG.synthesize.folds]


def get_encoder_of_synthesizer(wildcards):
    """The pretrained weights that a model reads through, if any."""
    name = getattr(get_synthesizer(wildcards), "encoder", None)
    return expand(f"{MODEL}/model.safetensors", model=name, fold=CONFIG.split.folds[0]) if name else []


def get_exports(wildcards):
    """Images of the model that is exported, if any."""
    return [f"{RESULTS}/synthesize/derivatives"] if SYNTHESES and EXPORTED else []


def get_syntheses(wildcards):
    """Tables of all models in all splits."""
    return [
        SYNTHESIS_FILES[kind].format(division=division, synthesizer=synthesizer)
        for division, synthesizer in SYNTHESES
        for kind in SYNTHESIS_KINDS
    ]


def get_synthesis_manifests(wildcards):
    """Manifests of all models in all splits, which say why one had to be left out."""
    return [SYNTHESIS_FILES["manifest"].format(division=division, synthesizer=name) for division, name in SYNTHESES]


def get_connectome_files(wildcards):
    """Files of the connectomes; a folder without any is an error of the job, which names what it needs."""
    return sorted(str(path) for path in Path(CONNECTOMES).glob("*connectomes*.mat")) if CONNECTOMES else []
