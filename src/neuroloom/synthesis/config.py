"""Settings of EEG-to-fMRI synthesis. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neuroloom.models.config import NeuroBOLTConfig
from neuroloom.schema import Frozen, Label

Bands = dict[Label, tuple[float, float]]
Division = Literal["subject", "site", "session", "scan"]
BANDS: Bands = {"theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0)}
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


class TargetConfig(Frozen):
    """What BOLD goes through before it is learned; each part of a split by itself."""

    chain: Literal["clean", "published"] = Field(
        "clean", description="published: NeuroBOLT's, whose filter and scale see the whole scan, test part included."
    )
    high_pass: float | None = Field(0.008, gt=0, description="Hz; left out of a part that is shorter than one period.")
    low_pass: float | None = Field(0.1, gt=0, description="Hz.")

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.low_pass and self.high_pass and self.high_pass >= self.low_pass:
            raise ValueError(f"need high_pass < low_pass, found {self.high_pass} and {self.low_pass} Hz")
        return self


class FitConfig(Frozen):
    """Training of a network that reads windows."""

    epochs: int = Field(20, ge=1, description="Passes over the training part; the best one by validation counts.")
    batch_size: int = Field(16, ge=1, description="Windows in a step.")
    lr: float = Field(3e-4, gt=0, description="Peak; cosine, after a warm-up of a quarter of the epochs.")
    weight_decay: float = Field(0.05, ge=0, description="Decoupled.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Arithmetic of the training.")


class ModelConfig(Frozen):
    """What every model of synthesis may be asked."""

    splits: tuple[Division, ...] | None = Field(None, description="Of synthesize.splits; null: all.")
    folds: tuple[int, ...] | None = Field(None, description="Of synthesize.folds; null: all.")


class MeanConfig(ModelConfig):
    """The mean of training, the same at all times: what r cannot see and an error has to beat."""

    kind: Literal["mean"] = "mean"


class RidgeConfig(ModelConfig):
    """Ridge on the band power of electrodes that all caps can be brought to."""

    kind: Literal["ridge"] = "ridge"
    bands: Bands = Field(BANDS, description="Hz.")
    lags: tuple[float, ...] = Field(
        (1.0, 3.0, 5.0, 7.0, 9.0, 12.0), description="s, of the design that validation may prefer to the response."
    )
    penalties: tuple[float, ...] = Field(PENALTIES, min_length=1, description="Of which validation chooses.")


class ArtefactConfig(ModelConfig):
    """The control: what scanner and heart leave in the EEG in time with the volumes, and nothing of the brain."""

    kind: Literal["artefact"] = "artefact"
    penalties: tuple[float, ...] = Field(PENALTIES, min_length=1, description="Of which validation chooses.")


class CnnConfig(ModelConfig):
    """A small network of spatial filters, temporal filters and their envelopes, after BEIRA."""

    kind: Literal["cnn"] = "cnn"
    n_filters: int = Field(16, ge=1, description="Spatial filters, each with a temporal one.")
    kernel: float = Field(0.5, gt=0, description="Length of a temporal filter, s.")
    training: FitConfig = FitConfig(lr=3e-3, weight_decay=0.01)


class HaemodynamicConfig(ModelConfig):
    """A head of parcels, from where their activity is seen to their BOLD; one for all caps, electrodes and parcels."""

    kind: Literal["haemodynamic"] = "haemodynamic"
    sources: bool = Field(True, description="Read the covariance of each parcel's source, through a model of the head.")
    bands: Bands = Field(BANDS, description="Hz, of the sources.")
    encoder: Label | None = Field(None, description="Read the tokens of this model of pretrain, too; null: none.")
    width: int = Field(16, ge=1, description="Components of the tokens.")
    radius: float = Field(0.03, gt=0, description="Over which tokens are pooled around a parcel, m.")
    lags: tuple[float, ...] = Field(
        (-1.0, -0.5, 0.0, 0.5, 1.0), min_length=1, description="Of the response, s, of which validation chooses."
    )
    penalties: tuple[float, ...] = Field(PENALTIES, min_length=1, description="Of which validation chooses.")

    @model_validator(mode="after")
    def _reads(self) -> Self:
        if not self.sources and self.encoder is None:
            raise ValueError("reads nothing; set sources: true, or name an encoder")
        return self


class BoltConfig(ModelConfig):
    """NeuroBOLT, trained on the windows before each volume."""

    kind: Literal["neurobolt"] = "neurobolt"
    network: NeuroBOLTConfig = NeuroBOLTConfig()
    weights: str | None = Field(None, description="Folder of imported LaBraM or NeuroBOLT weights to start from.")
    layer_decay: float = Field(0.65, gt=0, le=1, description="Of the rate, from one layer to the one below.")
    training: FitConfig = FitConfig()


SynthesizerConfig = Annotated[
    MeanConfig | RidgeConfig | ArtefactConfig | CnnConfig | HaemodynamicConfig | BoltConfig,
    Field(discriminator="kind"),
]


class ConnectomesConfig(Frozen):
    """Connectomes of EEG and fMRI of the same people, of which one is predicted from the other."""

    folder: str | None = Field(
        None, description="Folder of connectome files, below study.root; null leaves the table out."
    )
    n_draws: int = Field(100, ge=19, description="Of people who are exchanged, for the null.")


class SynthesizeConfig(Frozen):
    """BOLD from EEG: models, what is kept apart, and how they are judged."""

    use: tuple[Label, ...] = Field((), description="Models, by name; none leaves the stage out.")
    models: dict[Label, SynthesizerConfig] = Field({}, description="By name; `kind` says which.")
    splits: tuple[Division, ...] = Field(
        ("subject",), description="What is kept apart; scan: the end of each scan, known people, after a gap."
    )
    folds: tuple[int, ...] | None = Field(
        None, description="Of the people (or sites, sessions), tested in turn; null: all. Encoders: those of split."
    )
    baseline: Label = Field("ridge", description="Model that the others are compared with.")
    window: float = Field(16.0, gt=0, description="EEG before a volume, s.")
    response: float = Field(20.0, ge=0, description="Length of the haemodynamic response, s.")
    gap: float | None = Field(
        None, description="Between the parts of one scan, s; null: window and response; less than these is refused."
    )
    parts: tuple[float, float, float] = Field((0.7, 0.15, 0.15), description="Of a scan that train, validate, test.")
    target: TargetConfig = TargetConfig()
    start: Literal["triggers"] | float = Field(
        "triggers", description="First volume on the clock of the EEG, s, where no triggers say it."
    )
    dummy_volumes: Literal["auto"] | int = Field(
        "auto", description="Triggers before the first volume of the file; auto: as many as there are too many."
    )
    min_volumes: int = Field(10, ge=5, description="Volumes with EEG before them, below which a pair is quarantined.")
    n_draws: int = Field(200, ge=20, description="Of each null.")
    export: Label | None = Field(None, description="Model whose BOLD is written as images; null: none.")
    export_mm: float = Field(4.0, gt=0, description="Voxels of these images, mm.")
    connectomes: ConnectomesConfig = ConnectomesConfig()
    allow_seen_subjects: bool = Field(False, description="Mark people a model was trained on, instead of stopping.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        asked = [*self.use, *([self.export] if self.export else []), *([self.baseline] if self.use else [])]
        if unknown := [name for name in dict.fromkeys(asked) if name not in self.models]:
            known = ", ".join(self.models) or "none"
            raise ValueError(f"{', '.join(unknown)} is not described under models; there are: {known}")
        if self.use and (missing := {self.baseline, self.export} - {None, *self.use}):
            raise ValueError(f"{', '.join(map(str, missing))}: add it to use")
        if self.gap is not None and self.gap < self.least_gap:
            raise ValueError(
                f"gap {self.gap:g} s is less than window and response ({self.least_gap:g} s): the test would see what "
                "training has seen; raise it, or null"
            )
        if abs(sum(self.parts) - 1) > 1e-6 or min(self.parts) <= 0:
            raise ValueError(f"parts {self.parts} are not three shares of 1")
        return self

    @property
    def runs(self) -> list[tuple[str, str]]:
        """Split and model of each job; encoders have met people of every site, so they are asked about other people."""
        return [(split, name) for split in self.splits for name in self.use if self._asks(self.models[name], split)]

    def _asks(self, model: SynthesizerConfig, split: Division) -> bool:
        met = getattr(model, "encoder", None) and split != "subject" and not self.allow_seen_subjects
        return not met and (model.splits is None or split in model.splits)

    @property
    def least_gap(self) -> float:
        """s, after which nothing that one volume was made of is left in the next part."""
        return self.window + self.response
