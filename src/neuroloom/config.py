"""The config and the recordings sheet, as frozen models: one of the two places where a schema lives.

`config/schema.json` is generated from `Config`; the YAML files in `config/` are validated against it before any job
runs, and each script parses the one section that its rule hands over. Units stand in the names or in the descriptions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from neuroloom.evaluation.config import EvaluateConfig, SplitConfig
from neuroloom.federated.config import FLEEG, FederateConfig
from neuroloom.models.config import PretrainConfig
from neuroloom.passes.config import DaskConfig
from neuroloom.schema import ConfigError as ConfigError
from neuroloom.schema import Frozen as Frozen
from neuroloom.schema import Label as Label
from neuroloom.schema import describe_errors as describe_errors
from neuroloom.study.config import MODALITIES as MODALITIES
from neuroloom.study.config import Modality as Modality
from neuroloom.study.config import RecordingRow as RecordingRow
from neuroloom.study.config import StudyConfig as StudyConfig
from neuroloom.study.config import fill_environment as fill_environment
from neuroloom.synthesis.config import SynthesizeConfig
from neuroloom.tokenizers.config import TokenizeConfig


class SimulatedSite(Frozen):
    """One simulated site: its people, its machines and its bad habits."""

    n_subjects: int = Field(ge=1, description="Subjects of the site.")
    modalities: tuple[Modality, ...] = Field(description="What the site records; eeg with bold is simultaneous.")
    n_eeg: Literal[19, 32, 64] = Field(32, description="EEG electrodes.")
    sfreq: float = Field(gt=0, description="Sampling rate of EEG and MEG, Hz.")
    line_freq: Literal[50, 60] = Field(description="Mains, Hz.")
    reference: Literal["average", "Cz", "ears"] = Field("average", description="What the EEG was recorded against.")
    eeg_format: Literal["edf", "brainvision", "eeglab"] = Field("edf", description="File format of the EEG.")
    eeg_unit: Literal["uV", "mV"] = Field("uV", description="Unit in the EEG file (edf and brainvision).")
    eeg_noise: float = Field(gt=0, description="Sensor noise of the EEG, µV RMS.")
    meg_system: Literal["neuromag", "ctf"] = Field(
        "neuromag", description="MEG sensors: magnetometers with planar gradiometers, or axial gradiometers."
    )
    n_meg: int = Field(34, ge=8, le=200, description="Places on the MEG helmet.")
    t_r: float = Field(2.0, gt=0, description="Repetition time of the BOLD, s.")
    slice_order: Literal["at_once", "ascending", "interleaved"] = Field(
        "at_once", description="When the slices of a BOLD volume are measured; the sidecar has their times."
    )
    derivatives: bool = Field(
        True, description="BOLD comes realigned, with confounds and brain mask, as fMRIPrep leaves it; else raw."
    )
    bold_snr: float = Field(1.0, gt=0, description="SD of the parcel signal over the SD of a voxel's noise.")


class ArtefactConfig(Frozen):
    """Planted artefacts; each one is written to the truth table."""

    dead_channels: int = Field(1, ge=0, description="Channels that read exactly zero, per recording.")
    flat_channels: int = Field(1, ge=0, description="Channels with almost no signal (loose contact), per recording.")
    noisy_channels: int = Field(1, ge=0, description="Channels with broadband noise, per recording.")
    loose_channels: int = Field(1, ge=0, description="EEG channels off the head: noise of usual size, per recording.")
    bridged_pairs: int = Field(1, ge=0, description="Pairs of neighbouring electrodes joined by gel, per recording.")
    blinks_per_min: float = Field(12, ge=0, description="Blink rate.")
    blink_uv: float = Field(120, ge=0, description="Blink at Fp1, µV peak.")
    drift_uv: float = Field(30, ge=0, description="Slow drift, µV RMS.")
    line_uv: float = Field(8, ge=0, description="Mains, µV RMS.")
    muscle_per_min: float = Field(2, ge=0, description="Muscle bursts (20-100 Hz over one temporal side), per minute.")
    muscle_uv: float = Field(25, ge=0, description="Muscle burst, µV RMS.")
    gradient_uv: float = Field(10000, ge=0, description="Gradients of the scanner in EEG recorded with BOLD, µV peak.")
    cardiac_uv: float = Field(60, ge=0, description="Heartbeat in the scanner's field (ballistocardiogram), µV peak.")
    clock_ppm: float = Field(20, description="Scanner's clock behind the amplifier's, millionths.")
    interference_db: float = Field(28, description="Magnetic fields of the surroundings above those of the brain, dB.")
    motion_mm: float = Field(0.3, ge=0, description="Size of head steps in the scanner, mm.")


class SimulateConfig(Frozen):
    """The simulated study with ground truth."""

    sites: dict[Label, SimulatedSite] = Field(min_length=1, description="Sites by name.")
    tasks: tuple[Literal["rest", "imagery"], ...] = Field(
        ("rest", "imagery"), description="Tasks that every subject does."
    )
    duration: float = Field(gt=20, description="Length of a recording, s.")
    n_parcels: int = Field(64, ge=8, description="Parcels that hold one source each; even.")
    invisible_parcels: int = Field(0, ge=0, description="Parcels whose BOLD follows nothing that EEG could see.")
    voxel_mm: float = Field(4.0, ge=2, le=12, description="Voxel size of the BOLD, mm.")
    hrf_lag: float = Field(0.0, ge=-2, le=4, description="Extra lag of the haemodynamic response, s.")
    artefacts: ArtefactConfig = ArtefactConfig()


class ColumnsConfig(Frozen):
    """How a csv (or arff) recording is laid out."""

    channels: dict[str, str] = Field(min_length=1, description="Column -> channel name.")
    unit: Literal["V", "mV", "uV", "nV"] = Field("uV", description="Unit of the channel columns.")
    sfreq: float = Field(gt=0, description="Sampling rate, Hz.")
    time: str | None = Field(None, description="Column of time stamps in s; checked against sfreq.")
    events: str | None = Field(None, description="Column of markers; a change to a non-zero value is an event.")


class SourceConfig(Frozen):
    """What the files of one dataset (the sheet's `study` column) do not say themselves."""

    montage: str | None = Field(None, description="MNE montage that gives positions where the file has none.")
    line_freq: Literal[50, 60] | None = Field(None, description="Mains, Hz; null detects it.")
    types: dict[str, str] = Field({}, description="Channel name in the file -> MNE channel type.")
    scale: float = Field(
        1.0, gt=0, description="Factor on EEG values, where the file mislabels its unit (µV read as V: 1e-6)."
    )
    reference: str | None = Field(None, description="EEG reference of the recordings, where the file does not say.")
    columns: ColumnsConfig | None = Field(None, description="Layout of csv and arff files.")
    t_r: float | None = Field(None, gt=0, description="Repetition time, s, where neither sidecar nor header has it.")
    atlas: str | None = Field(None, description="Atlas of this dataset, instead of preprocess.bold.atlas.")
    scanner_t_r: float | None = Field(
        None, gt=0, description="EEG was recorded in a scanner with this repetition time, s; its artefacts are removed."
    )
    empty_room: str | None = Field(
        None,
        description="Recording of the empty MEG room, a path below study.root (${VAR:-default} is filled in); `bids`: "
        "what the sidecar names, or the one of sub-emptyroom that is closest in time. Projections are learnt from it "
        "where coils allow nothing better.",
    )
    head_positions: str = Field(
        "auto",
        description="Where the head was during MEG, which signal space separation follows; auto: from continuous HPI, "
        "where a FIF file has it; none; or a table (.pos) below study.root, in which {stem} is the recording's file "
        "name without its ending.",
    )


class IngestConfig(Frozen):
    """Checks and storage of raw recordings."""

    window: float = Field(10.0, gt=0, description="Length of one Zarr chunk of a recording, s.")
    plausible_eeg_uv: tuple[float, float] = Field(
        (0.1, 1000.0), description="Range of the median channel SD in 1 s, µV; outside it the unit is wrong."
    )
    plausible_meg_ft: tuple[float, float] = Field(
        (10.0, 1e6), description="The same for magnetometers and axial gradiometers, fT."
    )


class MeegConfig(Frozen):
    """First preprocessing of EEG and MEG."""

    l_freq: float = Field(0.5, gt=0, description="High-pass, Hz.")
    h_freq: float = Field(70.0, gt=0, description="Low-pass, Hz; lowered to 0.9 x Nyquist where the file is slower.")
    sfreq: float = Field(200.0, gt=0, description="Sampling rate after preprocessing, Hz.")
    notch: bool = Field(True, description="Remove mains and its harmonics.")
    reference: Literal["average", "none"] = Field("average", description="EEG reference afterwards.")
    flat_uv: float = Field(0.1, gt=0, description="An EEG channel below this SD is flat, µV.")
    flat_ft: float = Field(
        1.0, gt=0, description="A MEG channel below this SD is flat, fT (fT/cm for planar gradiometers)."
    )
    noisy_z: float = Field(
        5.0, gt=0, description="A channel whose log SD is this many robust SDs above the others is noisy."
    )
    gradient: Literal["average", "none"] = Field(
        "average", description="Take the gradients of a scanner out of EEG that was recorded in one (scanner_t_r)."
    )
    cardiac: Literal["obs", "none"] = Field(
        "obs", description="Take heartbeats out of EEG that was recorded in a scanner."
    )
    magnetic: Literal["auto", "maxwell", "tsss", "reference", "hfc", "ssp", "none"] = Field(
        "auto",
        description="Take magnetic fields of the surroundings out of MEG: signal space separation (tsss: temporal, for "
        "sources close to the head), reference coils, homogeneous field correction or signal space projection; auto "
        "takes what the coils allow.",
    )
    bridged_share: float | None = Field(
        0.05,
        gt=0,
        lt=1,
        description="Electrodes whose difference has a smaller share of their SD are bridged; null does not look.",
    )
    uncorrelated: float | None = Field(
        0.3,
        gt=0,
        lt=1,
        description="An EEG channel that correlates less with those closest to it is bad; null does not look.",
    )
    ocular: Literal["ica", "regression", "none"] = Field(
        "ica", description="Take blinks and eye movements out of EEG: independent components, or regression on EOG."
    )
    ocular_correlation: float = Field(
        0.5, gt=0, le=1, description="A component that goes this closely with EOG or frontal electrodes is of the eyes."
    )
    muscle: Literal["ica", "none"] = Field(
        "ica", description="Take muscle out of EEG above 15 Hz, while it is heard, by the same independent components."
    )
    burst_z: float | None = Field(
        6.0,
        gt=0,
        description="Robust SDs above its usual amplitude in 1 s that reject a window; null rejects none.",
    )
    interpolate: bool = Field(True, description="Interpolate bad channels from their neighbours' positions.")
    mantissa_bits: int | None = Field(
        10,
        ge=4,
        le=22,
        description="Bits kept of each sample's 23-bit mantissa, which halves the store; null keeps all.",
    )
    max_nan_fraction: float = Field(
        0.1, ge=0, le=1, description="A channel with more missing samples than this is bad; fewer are filled in."
    )
    max_bad_fraction: float = Field(
        0.4, gt=0, le=1, description="More bad channels than this quarantine the recording."
    )

    @model_validator(mode="after")
    def _band(self) -> Self:
        if not self.l_freq < self.h_freq <= self.sfreq / 2:
            raise ValueError(f"need l_freq < h_freq <= sfreq / 2, found {self.l_freq}, {self.h_freq}, {self.sfreq} Hz")
        return self


class BoldConfig(Frozen):
    """First preprocessing of BOLD."""

    atlas: str = Field(
        "template64", description="template<N>, grid<mm>, schaefer<N>, difumo<N>, aal, or a NIfTI of labels."
    )
    realign: Literal["auto", "never", "always"] = Field(
        "auto", description="Bring the volumes to one place; auto: where no motion parameters came with the series."
    )
    slice_timing: Literal["start", "middle", "none"] = Field(
        "start",
        description="Moment of the repetition time that all slices are brought to, where the sidecar has their times.",
    )
    smooth_mm: float | None = Field(None, gt=0, description="Gaussian smoothing, mm FWHM; null does not smooth.")
    detrend: bool = Field(True, description="Remove a linear trend from each voxel.")
    low_pass: float | None = Field(0.1, gt=0, description="Hz; null keeps all.")
    high_pass: float | None = Field(0.008, gt=0, description="Hz; null keeps all.")
    confounds: tuple[str, ...] = Field(
        (),
        description="Confound columns (prefixes) that are regressed out; a_comp_cor, global_signal, white_matter and "
        "csf are computed where the table lacks them.",
    )
    n_comp_cor: int = Field(5, ge=1, description="Components of aCompCor, where they are computed.")
    max_fd: float | None = Field(
        None, gt=0, description="Volumes that moved further than this (FD, mm) do not count; null keeps all."
    )
    max_censored: float = Field(
        0.5, gt=0, le=1, description="A larger share of volumes beyond max_fd quarantines the recording."
    )
    min_volumes: int = Field(10, ge=2, description="Fewer volumes than this quarantine the recording.")
    min_voxels: int = Field(3, ge=1, description="A parcel with fewer voxels is NaN.")
    min_coverage: float = Field(0.5, ge=0, le=1, description="A parcel of which a smaller share was measured is NaN.")

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.low_pass and self.high_pass and self.high_pass >= self.low_pass:
            raise ValueError(f"need high_pass < low_pass, found {self.high_pass} and {self.low_pass} Hz")
        return self


class PreprocessConfig(Frozen):
    """Cleaning."""

    meeg: MeegConfig = MeegConfig()
    bold: BoldConfig = BoldConfig()


class QuarantineConfig(Frozen):
    """Recordings that cannot be used."""

    max_fraction: float = Field(0.2, ge=0, le=1, description="More quarantined recordings than this stop the run.")


class ReportConfig(Frozen):
    """The HTML report."""

    max_figures: int = Field(60, ge=0, description="QC figures in the report; the worst recordings come first.")


class Config(Frozen):
    """The whole config of one run."""

    study: StudyConfig
    simulate: SimulateConfig
    sources: dict[str, SourceConfig] = Field({}, description="Facts about datasets, by the sheet's `study` column.")
    ingest: IngestConfig = IngestConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    split: SplitConfig = SplitConfig()
    tokenize: TokenizeConfig = TokenizeConfig()
    pretrain: PretrainConfig = PretrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    federate: FederateConfig = FederateConfig()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    dask: DaskConfig = DaskConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _tokenizers_of_models(self) -> Self:
        for name in (*self.pretrain.use, *self.pretrain.sizes):
            wanted = self.pretrain.model(name).tokenizer
            if wanted and getattr(self.tokenize.tokenizers.get(wanted), "kind", "") != "braintokenizer":
                raise ValueError(f"pretrain.models.{name} reads {wanted}, which is no BrainTokenizer of tokenize")
            if wanted and wanted not in self.tokenize.use:
                raise ValueError(f"pretrain.models.{name} reads {wanted}: add it to tokenize.use")
        return self

    @model_validator(mode="after")
    def _encoders_of_synthesis(self) -> Self:
        for name in self.synthesize.use:
            encoder = getattr(self.synthesize.models[name], "encoder", None)
            if encoder and encoder not in self.pretrain.use:
                raise ValueError(f"synthesize.models.{name} reads {encoder}: add it to pretrain.use")
        return self

    @model_validator(mode="after")
    def _federation(self) -> Self:
        if not self.federate.use:
            return self
        task = self.evaluate.tasks.get(self.federate.task or "")
        if task is None or not task.classes:
            raise ValueError(f"federate.task is {self.federate.task}; name one of evaluate.tasks that has classes")
        for name in self.federate.use:
            network = self.federate.strategies[name].network
            if network != FLEEG and network not in self.pretrain.use:
                raise ValueError(f"federate.strategies.{name} starts from {network}: add it to pretrain.use")
        return self


def parse_config(values: dict[str, Any]) -> Config:
    """Validate a config mapping.

    Parameters
    ----------
    values : dict
        The merged YAML.

    Raises
    ------
    ConfigError
        With one line for each wrong key: where it is, what was found, what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"config: {describe_errors(error)}") from None


def write_schema(path: Path = Path("config/schema.json")) -> None:
    """Generate the JSON schema that editors complete the config from."""
    path.write_text(json.dumps(Config.model_json_schema(), indent=1) + "\n")
