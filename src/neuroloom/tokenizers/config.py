"""Settings of the tokenizers. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from neuroloom.schema import Frozen, Label
from neuroloom.training.config import TrainingConfig


class LipcotConfig(Frozen):
    """LiPCoT: linear prediction of each channel, k-means of the coefficients (arXiv 2408.07292)."""

    kind: Literal["lipcot"] = "lipcot"
    sfreq: float | None = Field(None, gt=0, description="Rate of the signals, Hz; null: as preprocessed.")
    order: int = Field(16, ge=1, le=64, description="Order of the linear prediction.")
    warp: float = Field(0.2, gt=-1, lt=1, description="Frequency warping (lambda); 0 is plain Burg.")
    features: Literal["spectral", "coefficients", "cepstrum"] = Field(
        "coefficients", description="What is clustered: the paper's methods 1, 2 (released) and 3."
    )
    vocabulary: int = Field(64, ge=2, le=65535, description="Clusters, that is codes.")
    step: float = Field(5.0, gt=0, description="Length of the series that becomes one token, s.")
    n_init: int = Field(10, ge=1, description="Starts of k-means, of which the best is kept.")
    max_iter: int = Field(500, ge=1, description="Iterations of k-means at most.")
    batch_size: int = Field(0, ge=0, description="Series in one step of mini-batch k-means; 0 takes all at once.")


class BrainTokenizerConfig(Frozen):
    """BrainTokenizer: SEANet, latent sources and residual quantization (arXiv 2505.18185)."""

    kind: Literal["braintokenizer"] = "braintokenizer"
    sfreq: float | None = Field(None, gt=0, description="Rate of the signals, Hz; null: as preprocessed.")
    window_length: int = Field(512, ge=16, description="Samples of one window.")
    n_filters: int = Field(32, ge=1, description="Filters of the first convolution; doubled at each stride.")
    ratios: tuple[int, ...] = Field((8, 4, 2), min_length=1, description="Strides, in the decoder's order.")
    kernel_size: int = Field(5, ge=1, description="First kernel, samples; odd.")
    last_kernel_size: int = Field(5, ge=1, description="Last kernel, samples; odd.")
    embed_dim: int = Field(256, ge=2, description="Width of latents and codebooks.")
    num_heads: int = Field(4, ge=1, description="Attention heads between sensors and latents.")
    n_latents: int = Field(16, ge=1, description="Latent sources.")
    codebook_size: int = Field(512, ge=2, le=65535, description="Codes of one quantizer.")
    num_quantizers: int = Field(4, ge=1, description="Quantizers, each of what the one before left over.")
    rotation_trick: bool = Field(
        True, description="Gradients through the quantizer by rotation, else straight through."
    )
    decay: float = Field(0.99, gt=0, lt=1, description="Decay of the codebooks' moving averages.")
    dead_below: float = Field(2.0, ge=0, description="A code whose moving count is below this is replaced.")
    mask_ratio: float = Field(0.25, ge=0, lt=1, description="Channels hidden from the encoder in training.")
    max_channels: int = Field(
        0, ge=0, description="Sensors of a recording that a step looks at, drawn at random; 0 takes all, as published."
    )
    noise: float = Field(0.1, ge=0, description="SD of the noise on visible channels in training.")
    phase: Literal["raw", "wrapped"] = Field(
        "raw", description="Phase loss: difference of angles as published, or by the shorter way round."
    )
    overlap: float = Field(0.0, ge=0, lt=1, description="Overlap of windows when recordings are encoded.")
    weights: str | None = Field(None, description="Folder of imported weights, used instead of training.")
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}")
        if self.window_length % self.hop:
            raise ValueError(f"window_length {self.window_length} is no multiple of the strides' product {self.hop}")
        return self

    @property
    def hop(self) -> int:
        """Samples between two tokens of one latent."""
        product = 1
        for ratio in self.ratios:
            product *= ratio
        return product


TokenizerConfig = Annotated[LipcotConfig | BrainTokenizerConfig, Field(discriminator="kind")]


class TokenizeConfig(Frozen):
    """Tokenizers, and how they are judged."""

    use: tuple[Label, ...] = Field((), description="Tokenizers that are fitted, by name; none leaves the stage out.")
    tokenizers: dict[Label, TokenizerConfig] = Field({}, description="Tokenizers by name; `kind` says which method.")
    max_segments: int = Field(0, ge=0, description="Segments of a recording that are scored at most; 0 takes all.")
    n_permutations: int = Field(200, ge=20, description="Shuffled labels that chance is measured with.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := [name for name in self.use if name not in self.tokenizers]:
            known = ", ".join(self.tokenizers) or "none"
            raise ValueError(f"use names {', '.join(unknown)}; described under tokenizers are: {known}")
        return self


def parse_tokenizer(values: dict[str, Any]) -> LipcotConfig | BrainTokenizerConfig:
    """Settings of one tokenizer from a mapping, such as a saved JSON."""
    from pydantic import TypeAdapter

    return TypeAdapter(TokenizerConfig).validate_python(values)
