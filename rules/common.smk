"""The validated config, the recordings of the study, path templates and input functions."""

from pathlib import Path

from snakemake.exceptions import WorkflowError

from neuroloom.bold.parcels import check_atlas
from neuroloom.config import MODALITIES, ConfigError, parse_config
from neuroloom.evaluation.splits import device_of, split_subjects
from neuroloom.provenance import source_digest
from neuroloom.study.rows import source_of, study_rows
from neuroloom.study.site_files import SITE_FILES, empty_rooms_of, head_files_of

CONFIG = parse_config(config)
RESULTS = f"results/{CONFIG.study.name}"
LOGS = f"logs/{CONFIG.study.name}"
BENCHMARKS = f"benchmarks/results/{CONFIG.study.name}"
ROWS = {row.recording: row for row in study_rows(CONFIG)}
ROW_VALUES = [row.model_dump() for row in ROWS.values()]
FOLD = f"{RESULTS}/tokenize/{{tokenizer}}/fold-{{fold}}"
TOKEN_TABLES = [
    "tokenizers",
    "tokenizer_probes",
    "token_usage",
    "token_atlas",
    "token_examples",
    "token_example_spectra",
]
TOKEN_FIGURES = ["reconstruction", "rate_distortion", "code_usage", "atlas", "examples", "probes"]
DEVICES = sorted({device_of(row) for row in ROWS.values() if row.modality != "bold"})
SIMULATED = CONFIG.study.recordings is None

# a table's atlas is only its name, an image's has to be known
IMAGED = {row.study for row in ROWS.values() if row.path.endswith((".nii", ".nii.gz"))}
ATLASES = {CONFIG.sources[study].atlas for study in IMAGED if study in CONFIG.sources}
for atlas in {CONFIG.preprocess.bold.atlas, *ATLASES} - {None}:
    check_atlas(atlas)

# those of another study, such as the demo's, are no matter here
STUDIES = {row.study for row in ROWS.values()}
HELD_OUT = [device for device in CONFIG.tokenize.held_out_devices if device.split("-")[0] in STUDIES]
SPLIT = {"n_folds": CONFIG.tokenize.n_folds, "held_out_devices": HELD_OUT}

# too few people for a split stop here, not after hours
if ROWS and CONFIG.tokenize.use:
    for fold in CONFIG.tokenize.folds:
        try:
            split_subjects(list(ROWS.values()), fold=fold, **SPLIT)
        except ConfigError as error:
            raise ConfigError(f"tokenize: {error}. Or leave the tokenizers out: tokenize.use: []") from None


wildcard_constraints:
    recording=r"[A-Za-z0-9_-]+",
    site=r"[A-Za-z0-9]+",
    device=r"[A-Za-z0-9]+-[A-Za-z0-9]+-(eeg|meg)",
    tokenizer=r"[A-Za-z0-9]+",
    fold=r"\d+",


def get_row(wildcards):
    """Row of the sheet for one recording; another name is an error that lists a few known ones."""
    if wildcards.recording not in ROWS:
        known = ", ".join(list(ROWS)[:3])
        raise WorkflowError(f"no recording {wildcards.recording!r} in the sheet; it has {len(ROWS)}, such as {known}")
    return ROWS[wildcards.recording]


def get_path(wildcards):
    """File of one recording."""
    row = get_row(wildcards)
    root = f"{RESULTS}/simulated" if SIMULATED else CONFIG.study.root_path
    return str(Path(root) / row.path)


def get_raw(wildcards):
    """What the ingest of one recording waits for: its site's simulated dataset, or its file."""
    if SIMULATED:
        return f"{RESULTS}/simulated/{get_row(wildcards).site}.manifest.json"
    return get_path(wildcards)


def get_source(wildcards):
    """Facts about the dataset of one recording; files of its site are inputs of the rules that read them."""
    return source_of(get_row(wildcards), CONFIG).model_dump(exclude=SITE_FILES)


def get_empty_room(wildcards):
    """Recording of the empty room for one MEG recording, if its study names one and it can be of use."""
    return empty_rooms_of(get_row(wildcards), CONFIG)


def get_head_files(wildcards):
    """What says where the head was in one MEG recording: its own file, and a table if its study names one."""
    return head_files_of(get_row(wildcards), CONFIG)


def recordings(*modalities):
    """Identifiers of the recordings of some modalities."""
    if not ROWS:
        raise WorkflowError(f"{CONFIG.study.recordings} is not written yet: run snakemake index_study first")
    return [name for name, row in ROWS.items() if row.modality in modalities]


def get_recordings(*modalities, template):
    """Input function: one path for each recording of some modalities."""
    return lambda wildcards: expand(template, recording=recordings(*modalities))


def get_simulate(wildcards):
    """The simulation of one site, without the other sites."""
    if wildcards.site not in CONFIG.simulate.sites:
        raise WorkflowError(f"no simulated site {wildcards.site!r}; there are {', '.join(CONFIG.simulate.sites)}")
    simulate = CONFIG.simulate.model_dump()
    return {**simulate, "sites": {wildcards.site: simulate["sites"][wildcards.site]}}


def get_tokenizer_source(wildcards):
    """Digest of what one tokenizer runs."""
    kind = CONFIG.tokenize.tokenizers[wildcards.tokenizer].kind
    return source_digest(f"neuroloom.tokenizers.{kind}", "neuroloom.tokenizers.tokens")


def get_judging_source(wildcards):
    """Digest of what one tokenizer is judged by."""
    return [get_tokenizer_source(wildcards), source_digest("neuroloom.tokenizers.judging")]


def get_imported_weights(wildcards):
    """Weights that are taken instead of training, if the config names some."""
    folder = getattr(CONFIG.tokenize.tokenizers[wildcards.tokenizer], "weights", None)
    return [f"{folder}/model.safetensors", f"{folder}/config.json"] if folder else []


def get_device_manifests(wildcards):
    """The cleaned recordings of one device."""
    names = [name for name, row in ROWS.items() if device_of(row) == wildcards.device]
    if not names:
        raise WorkflowError(f"no device {wildcards.device!r}; there are {', '.join(DEVICES)}")
    return expand(f"{RESULTS}/preprocess/{{recording}}.manifest.json", recording=names)


def get_token_manifests(wildcards):
    """The tokens of all devices by one tokenizer."""
    return expand(f"{FOLD}/{{device}}.manifest.json", device=DEVICES, **wildcards)


def get_tokenizer_tables(wildcards):
    """Score tables of all tokenizers and folds, and what each device lost."""
    files = [f"{table}.parquet" for table in TOKEN_TABLES] + [f"{device}.lost.parquet" for device in DEVICES]
    return expand(f"{FOLD}/{{file}}", tokenizer=CONFIG.tokenize.use, fold=CONFIG.tokenize.folds, file=files)


def get_benchmarks(wildcards):
    """Benchmark files of every job of the study that the report tells the time and memory of."""
    sites = CONFIG.simulate.sites if SIMULATED else []
    files = [f"{BENCHMARKS}/simulate_site/{site}.tsv" for site in sites]
    for stage in ("ingest", "preprocess"):
        files += [f"{BENCHMARKS}/{stage}_meeg/{name}.tsv" for name in recordings("eeg", "meg")]
        files += [f"{BENCHMARKS}/{stage}_bold/{name}.tsv" for name in recordings("bold")]
    return files
