"""Settings of the foundation models. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from neuroloom.schema import Frozen, Label
from neuroloom.training.config import TrainingConfig

Modality = Literal["eeg", "meg"]


class ReveConfig(Frozen):
    """REVE: patches of single channels with 4-D positions, masked autoencoding (arXiv 2510.21585)."""

    kind: Literal["reve"] = "reve"
    sfreq: float | None = Field(None, gt=0, description="Rate of the signals, Hz; null: as preprocessed.")
    segment: float | None = Field(None, gt=0, description="Length of a segment in training, s; null: ingest.window.")
    embed_dim: int = Field(512, ge=2, description="Width of a token.")
    depth: int = Field(4, ge=1, description="Transformer layers.")
    num_heads: int = Field(8, ge=1, description="Attention heads.")
    head_dim: int = Field(64, ge=1, description="Width of one head; heads together may be wider than a token.")
    mlp_ratio: float = Field(2.66, gt=0, description="Width of the feed-forward layer over that of a token.")
    n_frequencies: int = Field(4, ge=1, description="Frequencies of the position code along each of its four axes.")
    position_scale: float = Field(
        1.0, gt=0, description="What positions are multiplied by before they are coded; published: 1."
    )
    local_start: float = Field(
        0.0, ge=0, description="Gain of queries and keys that start alike, so that near tokens are seen first; 0: no."
    )
    patch_size: int = Field(200, ge=2, description="Samples of a patch; published: 1 s at 200 Hz.")
    patch_overlap: int = Field(20, ge=0, description="Samples that neighbouring patches share.")
    decoder_embed_dim: int = Field(512, ge=2, description="Width of the decoder that fills in hidden patches.")
    decoder_depth: int = Field(4, ge=1, description="Layers of the decoder.")
    decoder_num_heads: int = Field(8, ge=1, description="Attention heads of the decoder.")
    decoder_head_dim: int = Field(64, ge=1, description="Width of one head of the decoder.")
    token_average: float = Field(
        0.1, ge=0, description="Weight of the loss that reads all layers through one token; 0 leaves it out."
    )
    mask: Literal["block", "released", "random"] = Field(
        "block", description="Hidden patches: the paper's blocks, the published code's order of them, or single ones."
    )
    mask_ratio: float = Field(0.55, gt=0, lt=1, description="Share of the patches that is hidden.")
    mask_radius: float = Field(0.03, ge=0, description="Radius of a block over the head, m.")
    mask_patches: int = Field(3, ge=1, description="Patches in time that one block hides.")
    dropout_ratio: float = Field(0.1, ge=0, lt=1, description="Share of the channels that is hidden throughout.")
    dropout_radius: float = Field(0.04, ge=0, description="Radius of the regions of such channels, m.")
    position_noise: float = Field(0.0025, ge=0, description="SD of the noise on positions in training, m.")
    orientation: bool = Field(False, description="Also tell it where a sensor points and of what type it is: for MEG.")
    modalities: tuple[Modality, ...] = Field(("eeg",), min_length=1, description="Recordings it is trained on.")
    share: float = Field(1.0, gt=0, le=1, description="Share of the recordings it is trained on.")
    weights: str | None = Field(None, description="Folder of imported weights, used instead of training.")
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _patches(self) -> Self:
        if self.patch_overlap >= self.patch_size:
            raise ValueError(f"patch_overlap {self.patch_overlap} is not below patch_size {self.patch_size}")
        return self

    @model_validator(mode="after")
    def _frequencies(self) -> Self:
        needed = next(count for count in range(1, self.embed_dim + 1) if 2 * count**4 >= self.embed_dim)
        if self.embed_dim % 2:
            raise ValueError(f"embed_dim {self.embed_dim} is odd; the position code has as many sines as cosines")
        if self.n_frequencies < needed:
            raise ValueError(
                f"n_frequencies {self.n_frequencies} gives {2 * self.n_frequencies**4} sines and cosines for embed_dim "
                f"{self.embed_dim}; give {needed} or more, what is too much is left out"
            )
        return self

    @property
    def tokenizer(self) -> None:
        """None: it reads the signal itself."""
        return


# as published; tiny with the frequencies that its width needs (the published 3 are too few)
REVE_SIZES: dict[str, ReveConfig] = {
    "tiny": ReveConfig(embed_dim=200, depth=4, num_heads=4, n_frequencies=4),
    "small": ReveConfig(embed_dim=512, depth=4, num_heads=8, n_frequencies=4),
    "base": ReveConfig(embed_dim=512, depth=22, num_heads=8, n_frequencies=4),
    "large": ReveConfig(embed_dim=1216, depth=22, num_heads=19, n_frequencies=5),
}


class BrainOmniConfig(Frozen):
    """BrainOmni: attention over time and over latent sources, on BrainTokenizer's codes (arXiv 2505.18185)."""

    kind: Literal["brainomni"] = "brainomni"
    tokenizer: Label = Field("braintokenizer", description="Name of the BrainTokenizer, under tokenize.tokenizers.")
    embed_dim: int = Field(256, ge=4, description="Width of a token.")
    depth: int = Field(12, ge=2, description="Blocks; the last one serves the prediction of codes alone.")
    num_heads: int = Field(8, ge=2, description="Attention heads, one half over time and one over sources.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in training.")
    mask_ratio: float = Field(0.5, gt=0, lt=1, description="Probability that a token is hidden.")
    random_ratio: float = Field(0.2, ge=0, le=1, description="Share of the hidden tokens shown as another one.")
    modalities: tuple[Modality, ...] = Field(("eeg", "meg"), min_length=1, description="Recordings it is trained on.")
    share: float = Field(1.0, gt=0, le=1, description="Share of the recordings it is trained on.")
    weights: str | None = Field(None, description="Folder of imported weights, used instead of training.")
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.num_heads % 2 or self.embed_dim % (2 * self.num_heads):
            raise ValueError(
                f"embed_dim {self.embed_dim} and num_heads {self.num_heads}: each is halved between time and sources, "
                "and heads must have an even width; give an even num_heads and a multiple of twice that"
            )
        return self


BRAINOMNI_SIZES: dict[str, dict[str, int]] = {  # published
    "tiny": {"embed_dim": 256, "depth": 12, "num_heads": 8},
    "base": {"embed_dim": 512, "depth": 12, "num_heads": 16},
}

# the montage of the published scans, in the order of its channel tokens
NEUROBOLT_ELECTRODES = (
    *("FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7"),
    *("T8", "P7", "P8", "FPZ", "FZ", "CZ", "PZ", "POZ", "OZ", "FT9", "FT10", "TP9", "TP10"),
)


class LaBraMConfig(Frozen):
    """LaBraM's encoder: patches of 1 s of single channels, attention over all of them (arXiv 2405.18765)."""

    embed_dim: int = Field(200, ge=4, description="Width of a token.")
    depth: int = Field(12, ge=1, description="Transformer layers.")
    num_heads: int = Field(10, ge=1, description="Attention heads.")
    mlp_ratio: float = Field(4.0, gt=0, description="Width of the feed-forward layer over that of a token.")
    patch_size: int = Field(200, ge=16, description="Samples of a patch; published: 1 s at 200 Hz.")
    n_patches: int = Field(16, ge=1, description="Patches of one channel that it has codes of time for.")
    n_filters: int = Field(8, ge=4, multiple_of=4, description="Filters of the convolutions over a patch.")
    layer_scale: float = Field(0.1, gt=0, description="What the parts of a layer are multiplied by at the start.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of tokens and of what the parts of a layer add.")
    drop_path: float = Field(
        0.1, ge=0, lt=1, description="Share of samples that the last layer skips; the first: none."
    )

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}")
        return self


class NeuroBOLTConfig(LaBraMConfig):
    """NeuroBOLT: LaBraM and a multi-scale spectral branch, from EEG to BOLD (arXiv 2410.05341)."""

    kind: Literal["neurobolt"] = "neurobolt"
    mode: Literal["whole_brain", "published"] = Field(
        "whole_brain", description="One model for all parcels, or, as published, one for each."
    )
    n_outputs: int = Field(1, ge=1, description="Parcels.")
    sfreq: float = Field(200.0, gt=0, description="Rate of the EEG, Hz.")
    window: float = Field(16.0, gt=0, description="EEG before a volume, s.")
    electrodes: tuple[str, ...] | None = Field(
        NEUROBOLT_ELECTRODES, description="Electrodes that it knows; null: n_electrodes whose names are not told."
    )
    n_electrodes: int = Field(26, ge=1, description="Their number; follows from electrodes where these are told.")
    scales: tuple[int, ...] = Field((100, 200, 400, 800), min_length=1, description="Windows of the spectra, samples.")
    spectral_depth: int = Field(4, ge=1, description="Layers of linear attention in the spectral branch.")
    spectral_heads: int = Field(8, ge=1, description="Heads of these.")
    spectral_dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of what their attention adds.")
    position_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of the spectral tokens.")

    @model_validator(mode="before")
    @classmethod
    def _count(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("electrodes"):
            return {**values, "n_electrodes": len(values["electrodes"])}
        return values

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.embed_dim % self.spectral_heads or self.embed_dim % 2:
            raise ValueError(f"embed_dim {self.embed_dim} must be even and a multiple of spectral_heads")
        if self.electrodes and len({name.upper() for name in self.electrodes}) < len(self.electrodes):
            raise ValueError("electrodes names one twice")
        for size in (self.patch_size, *self.scales):
            if self.n_times % size or size > self.n_times:
                raise ValueError(
                    f"a window of {self.n_times} samples is no multiple of {size}; "
                    "change window, sfreq, patch_size or scales"
                )
        if self.n_times // self.patch_size > self.n_patches:
            raise ValueError(f"window holds {self.n_times // self.patch_size} patches; set n_patches to that or more")
        return self

    @property
    def n_times(self) -> int:
        """Samples of the EEG before a volume."""
        return round(self.window * self.sfreq)


ModelConfig = Annotated[ReveConfig | BrainOmniConfig, Field(discriminator="kind")]


class SweepConfig(Frozen):
    """One model at other sizes, or with less data: how its loss scales."""

    of: Label | None = Field(None, description="The model, under pretrain.models; null leaves the sweep out.")
    sizes: dict[Label, dict[str, Any]] = Field({}, description="Name -> what differs from that model.")


class PretrainConfig(Frozen):
    """Foundation models, and which of them are trained."""

    use: tuple[Label, ...] = Field((), description="Models that are trained and evaluated; none leaves the stage out.")
    models: dict[Label, ModelConfig] = Field({}, description="Models by name; `kind` says which architecture.")
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if "baselines" in self.models:
            raise ValueError("no model may be called baselines: these have their own place beside the models")
        named = [*self.use, *([self.sweep.of] if self.sweep.of else [])]
        if unknown := [name for name in named if name not in self.models]:
            known = ", ".join(self.models) or "none"
            raise ValueError(f"use or sweep names {', '.join(unknown)}; described under models are: {known}")
        for name in self.sizes:  # a size that cannot be is found here, not in its job
            self.model(name)
        return self

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of the models of the sweep; none where no model is used."""
        return tuple(f"{self.sweep.of}{size}" for size in self.sweep.sizes) if self.sweep.of and self.use else ()

    def model(self, name: str) -> ReveConfig | BrainOmniConfig:
        """Settings of a model in use, or of one of the sweep.

        Raises
        ------
        KeyError
            If there is none of this name.
        """
        if name in self.models:
            return self.models[name]
        base = self.models[str(self.sweep.of)]
        return parse_model({**base.model_dump(), **self.sweep.sizes[name.removeprefix(str(self.sweep.of))]})


def parse_model(values: dict[str, Any]) -> ReveConfig | BrainOmniConfig:
    """Settings of one model from a mapping, such as a saved JSON."""
    from pydantic import TypeAdapter

    return TypeAdapter(ModelConfig).validate_python(values)
