"""The validated config, the recordings of the study, path templates and input functions."""

import sys
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from neuroloom.bold.parcels import check_atlas
from neuroloom.cluster import growing, keep_slurm_jobs
from neuroloom.config import MODALITIES, ConfigError, parse_config
from neuroloom.evaluation.splits import device_of, split_subjects
from neuroloom.forking import fork_jobs
from neuroloom.provenance import resource_digest, source_digest
from neuroloom.scheduling import look_once
from neuroloom.study.rows import source_of, study_rows
from neuroloom.study.site_files import SITE_FILES, empty_rooms_of, head_files_of

keep_slurm_jobs()
if workflow.is_main_process:
    fork_jobs()
    look_once()
# under every config but one that replaces it; `configfile:` would not be read where this workflow is a module
REPLACED = workflow.config_settings.replace_workflow_config
DEFAULTS = {} if REPLACED else load_configfile(workflow.source_path("../config/config.yaml"))
update_config(DEFAULTS, config)
CONFIG = parse_config(DEFAULTS)
RESULTS = f"results/{CONFIG.study.name}"
LOGS = f"logs/{CONFIG.study.name}"
BENCHMARKS = f"benchmarks/results/{CONFIG.study.name}"
# not in each job again, nor where figures are drawn from tables, which may be all that is here
CHECKED = workflow.is_main_process and "--allowed-rules" not in sys.argv  # settings come after the rules
ROWS = {row.recording: row for row in study_rows(CONFIG, check=CHECKED)}
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
MODELS = [*CONFIG.pretrain.use, *CONFIG.pretrain.sizes]
MODEL = f"{RESULTS}/pretrain/{{model}}/fold-{{fold}}"
TASKS = CONFIG.evaluate.use
EVALUATION_TABLES = [
    "evaluation",
    "evaluation_summary",
    "evaluation_subjects",
    "evaluation_differences",
    "evaluation_variance",
    "evaluation_audits",
]
EVALUATION = f"{RESULTS}/evaluate/{{task}}/fold-{{fold}}"
RECORDINGS_OF = {}  # device: what it measured; a search of the sheet for each device would be quadratic
for name, row in ROWS.items():
    RECORDINGS_OF.setdefault(device_of(row), []).append(name)
DEVICES = sorted(device for device in RECORDINGS_OF if not device.endswith("-bold"))
SIMULATED = CONFIG.study.recordings is None

# a table's atlas is only its name, an image's has to be known
IMAGED = {row.study for row in ROWS.values() if row.path.endswith((".nii", ".nii.gz"))}
ATLASES = {CONFIG.sources[study].atlas for study in IMAGED if study in CONFIG.sources}
for atlas in {CONFIG.preprocess.bold.atlas, *ATLASES} - {None}:
    check_atlas(atlas)

# those of another study, such as the demo's, are no matter here
STUDIES = {row.study for row in ROWS.values()}
HELD_OUT = [device for device in CONFIG.split.held_out_devices if device.split("-")[0] in STUDIES]
SPLIT = {"n_folds": CONFIG.split.n_folds, "held_out_devices": HELD_OUT}

# too few people for a split stop here, not after hours
if ROWS and (CONFIG.tokenize.use or MODELS or TASKS or CONFIG.federate.use):
    for fold in CONFIG.split.folds:
        try:
            split_subjects(list(ROWS.values()), fold=fold, **SPLIT)
        except ConfigError as error:
            message = "Or leave out what learns: tokenize.use, pretrain.use, evaluate.use and federate.use: []"
            raise ConfigError(f"split: {error}. {message}") from None


wildcard_constraints:
    recording=r"[A-Za-z0-9_-]+",
    site=r"[A-Za-z0-9]+",
    device=r"[A-Za-z0-9]+-[A-Za-z0-9]+-(eeg|meg)",
    tokenizer=r"[A-Za-z0-9]+",
    model=r"(?!baselines\b)[A-Za-z0-9]+",
    task=r"[A-Za-z0-9]+",
    strategy=r"[A-Za-z0-9]+",
    pair=r"[A-Za-z0-9_-]+",
    synthesizer=r"[A-Za-z0-9]+",
    division=r"subject|site|session|scan",
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


def get_device_manifests(wildcards):
    """The cleaned recordings of one device."""
    if wildcards.device not in RECORDINGS_OF:
        raise WorkflowError(f"no device {wildcards.device!r}; there are {', '.join(DEVICES)}")
    return expand(f"{RESULTS}/preprocess/{{recording}}.manifest.json", recording=RECORDINGS_OF[wildcards.device])
