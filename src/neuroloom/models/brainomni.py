"""BrainOmni: a transformer over the codes of BrainTokenizer, one model for EEG and MEG of any sensors.

A frozen BrainTokenizer turns the sensors into 16 latent sources, a token of four codes each at every step. Blocks
attend over time and over sources; in pretraining the codes of hidden tokens are predicted, all four at once
(`brainomni_pretraining.py`). The last block serves that prediction alone: tokens are what the blocks before it make,
each at unit length.

Source: Xiao et al., NeurIPS 2025, arXiv 2505.18185. Against the authors' code: what `crisscross.py` names; the
tokenizer is never run in pretraining, which reads its codes; it is no trained part, stays in evaluation mode and is
saved along; logits are computed of hidden tokens only; training starts with weights that keep the size of what comes in
and with a mask vector of zero, because from the published start (SD 0.02, a mask as large as the vector of a source)
narrow models take hundreds of steps to see more than how often a code occurs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.base import Corpus, Encoder
from neuroloom.models.config import BrainOmniConfig
from neuroloom.models.crisscross import Block, rotation
from neuroloom.schema import ConfigError, describe_errors
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.official import config_of, load_network, load_strictly, to_ours
from neuroloom.tokenizers.segments import Preparation
from neuroloom.training.checkpoint import SETTINGS, save_network

EPSILON = 1e-6
HEAD_SD = 0.02  # small, so that at the start all codes are as likely
_SETTINGS = {"lm_dim": "embed_dim", "lm_depth": "depth", "lm_head": "num_heads", "lm_dropout": "dropout"}
_OURS = (
    (r"^mask_token$", "mask_D"),
    (r"^projection\.", "project."),
    (r"^predict_head\.", "head."),
    (r"\.(time|spatial)_attn\.", lambda found: ".time." if found[1] == "time" else ".space."),
    (r"\.(time|space)\.proj\.", r".\1.out."),
    (r"\.pre_attn_norm\.", ".mix_norm."),
    (r"\.pre_ff_norm\.", ".feed_norm."),
    (r"\.ff\.layer\.0\.", ".widen."),
    (r"\.ff\.layer\.2\.", ".narrow."),
)
_PHASE = re.compile(r"\.rope_embedding_layer\.(freqs|rotate(\.real|\.imag)?)$")  # follows from width and length


class BrainOmni(Encoder):
    """The network.

    Parameters
    ----------
    config : BrainOmniConfig
    tokenizer : BrainTokenizer
        Frozen; a copy is kept.

    Attributes
    ----------
    overlap : float
        Share of a window of the tokenizer that the next one repeats.
    """

    preparation: ClassVar[Preparation] = "brainomni"
    lora_targets: ClassVar[tuple[str, ...]] = ("qkv", "out", "widen", "narrow")

    def __init__(self, config: BrainOmniConfig, tokenizer: BrainTokenizer) -> None:
        super().__init__()
        self.config, self.sfreq, self.embed_dim = config, tokenizer.sfreq, config.embed_dim
        self.tokenizer = deepcopy(tokenizer).requires_grad_(False).eval()
        self.overlap = tokenizer.config.overlap
        width, codes = tokenizer.config.embed_dim, tokenizer.codebook_sizes
        self.mask_D = nn.Parameter(torch.zeros(width))
        self.project: nn.Module = nn.Identity() if width == config.embed_dim else nn.Linear(width, config.embed_dim)
        blocks = [Block(config.embed_dim, config.num_heads, config.dropout) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(config.embed_dim, sum(codes))

    @classmethod
    def create(
        cls, config: BrainOmniConfig, *, sfreq: float, tokenizer: BrainTokenizer | None = None, seed: int = 0
    ) -> Self:
        """A model with weights as training starts with them.

        Raises
        ------
        ConfigError
            If there is no BrainTokenizer, or it is of another rate.
        """
        if not isinstance(tokenizer, BrainTokenizer):
            raise ConfigError(f"BrainOmni reads the codes of a BrainTokenizer, not of {type(tokenizer).__name__}")
        if sfreq != tokenizer.sfreq:
            raise ConfigError(f"BrainOmni at {sfreq:g} Hz: its tokenizer is of {tokenizer.sfreq:g} Hz; give that rate")
        with torch.random.fork_rng(devices=[]):  # torch's layers draw weights of their own first
            model = cls(config, tokenizer)
        generator = torch.Generator().manual_seed(seed)
        for part in (model.project, *model.blocks.modules(), model.head):
            if isinstance(part, nn.Linear):
                sd = HEAD_SD if part is model.head else part.in_features**-0.5
                nn.init.normal_(part.weight, 0, sd, generator=generator)
                nn.init.zeros_(part.bias)
        return model

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], model_cfg: Mapping[str, Any]) -> Self:
        """The published model, from its checkpoint, tokenizer included.

        Parameters
        ----------
        state_dict : mapping
            Tensors by the authors' names. Tables of the rotation are not read.
        model_cfg : mapping
            The authors' model_cfg.json.

        Raises
        ------
        ConfigError
            If a setting is missing or not offered, or a tensor is missing, unknown or of another shape, by name.
        """
        config, tokenizer = _configs_of(model_cfg)
        model = cls(config, BrainTokenizer(tokenizer))
        read = {name: value for name, value in state_dict.items() if not _PHASE.search(name)}
        theirs = {name: value for name, value in read.items() if name.startswith("tokenizer.")}
        ours = {f"tokenizer.{name}": value for name, value in to_ours(theirs).items()}
        ours |= {_rename(name): value for name, value in read.items() if name not in theirs}
        load_strictly(model, ours, source="published BrainOmni weights")
        return model.eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode of all but the tokenizer."""
        self.training = mode
        for part in self.children():
            part.train(mode and part is not self.tokenizer)
        return self

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile the blocks, in place: one at a time, because they are alike."""
        for block in self.blocks:
            block.compile(*arguments, **options)

    def inputs(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> tuple[Tensor, ...]:
        """Quantized features (B, L, S, D) of the tokenizer, D of its width."""
        tokens = self.tokenizer.encode(signal_BCT, positions_BC6, sensor_type_BC, self.overlap)
        return (tokens.features.clone(),)  # what is made in inference mode cannot be saved for gradients

    def forward(self, *inputs: Tensor) -> Tensor:
        """Tokens (B, latents x steps, D), at unit length, of features (B, L, S, D)."""
        return self.tokens(*inputs).flatten(1, 2)

    def encode(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """Tokens of prepared segments.

        Parameters
        ----------
        signal_BCT, positions_BC6, sensor_type_BC : tensors
            As `BrainTokenizer.encode` takes them.

        Returns
        -------
        tensor (B, L, S, D)
            At unit length; L latent sources, S steps.
        """
        return self.tokens(*self.inputs(signal_BCT, positions_BC6, sensor_type_BC))

    def logits(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """What is predicted of each code where nothing is hidden: (B, L, S, Q x K), level by level."""
        x_BLSD, turn_SHD = self._prepared(*self.inputs(signal_BCT, positions_BC6, sensor_type_BC))
        return self.head(self._through(x_BLSD, turn_SHD, self.config.depth))

    def tokens(self, features_BLSD: Tensor) -> Tensor:
        """Tokens (B, L, S, D) of features, by all blocks but the last."""
        x_BLSD, turn_SHD = self._prepared(features_BLSD)
        return F.normalize(self._through(x_BLSD, turn_SHD, self.config.depth - 1).float(), dim=-1, eps=EPSILON)

    def predict(self, features_BLSD: Tensor, hidden_N: Tensor) -> Tensor:
        """Logits (N, Q, K) of the codes of hidden tokens.

        Parameters
        ----------
        features_BLSD : tensor
            As they are shown, with something else in the place of hidden ones.
        hidden_N : int64 tensor
            Where in the flattened batch hidden tokens are.
        """
        x_BLSD, turn_SHD = self._prepared(features_BLSD)
        x_BLSD = self._through(x_BLSD, turn_SHD, self.config.depth - 1)
        last: Any = self.blocks[-1]
        # after its attention nothing is exchanged any more, so the rest is computed where it is asked for
        x_ND = last.feed(last.mix(x_BLSD, turn_SHD).flatten(0, 2).index_select(0, hidden_N))
        return self.head(x_ND).unflatten(-1, (len(self.tokenizer.codebook_sizes), -1))

    def _prepared(self, features_BLSD: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block reads, and the turns of its steps."""
        latents_LD = self.tokenizer.gather.latents_LD.detach()
        x_BLSD = self.project((features_BLSD + latents_LD[:, None]).to(self.mask_D.dtype))
        heads = self.config.num_heads
        return x_BLSD, rotation(x_BLSD.shape[2], heads // 2, self.embed_dim // heads, device=x_BLSD.device)

    def _through(self, x_BLSD: Tensor, turn_SHD: Tensor, n_blocks: int) -> Tensor:
        for block in self.blocks[:n_blocks]:
            x_BLSD = block(x_BLSD, turn_SHD)
        return x_BLSD

    def pretrain(
        self, corpus: Corpus, validation: Corpus, *, rng: np.random.Generator, folder: Path | None = None
    ) -> dict[str, Any]:
        """Masked prediction of the codes in `corpus.tokens`."""
        from neuroloom.models.brainomni_pretraining import pretrain_brainomni

        return pretrain_brainomni(self, corpus, validation, rng=rng, folder=folder)

    def save(self, folder: Path) -> None:
        """Weights as safetensors and settings as JSON, those of the tokenizer included."""
        inside = {"tokenizer": self.tokenizer.config}
        save_network(self, folder, kind="brainomni", sfreq=self.sfreq, config=self.config, **inside)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ConfigError
            If the weights do not fit the settings.
        """
        settings = json.loads((folder / SETTINGS).read_text())
        tokenizer = BrainTokenizer(BrainTokenizerConfig(**settings["tokenizer"]), settings["sfreq"])
        return load_network(cls(BrainOmniConfig(**settings["config"]), tokenizer), folder)


def _configs_of(model_cfg: Mapping[str, Any]) -> tuple[BrainOmniConfig, BrainTokenizerConfig]:
    """Settings of model and tokenizer from the authors' model_cfg."""
    missing = sorted({*_SETTINGS, "mask_ratio", "overlap_ratio"} - model_cfg.keys())
    if missing:
        raise ConfigError(f"model_cfg of a BrainOmni: no {', '.join(missing)}; give that of the checkpoint")
    tokenizer = config_of(model_cfg)
    predicted = model_cfg.get("num_quantizers_used") or tokenizer.num_quantizers
    if predicted != tokenizer.num_quantizers:
        raise ConfigError(
            f"model_cfg of a BrainOmni: it predicts {predicted} of {tokenizer.num_quantizers} levels of codes, and "
            "only models of all levels are read; give the checkpoint of such a one"
        )
    try:
        ours = {ours: model_cfg[theirs] for theirs, ours in _SETTINGS.items()}
        config = BrainOmniConfig(**ours, mask_ratio=model_cfg["mask_ratio"])
        overlap = {"overlap": model_cfg["overlap_ratio"]}
        return config, BrainTokenizerConfig(**{**tokenizer.model_dump(), **overlap})
    except ValidationError as error:
        raise ConfigError(f"model_cfg of a BrainOmni: {describe_errors(error)}") from error


def _rename(name: str) -> str:
    for pattern, ours in _OURS:
        name = re.sub(pattern, ours, name)
    return name


MODEL = BrainOmni
