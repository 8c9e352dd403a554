"""REVE: tokens of single channels, wherever these are on the head.

Each second of each channel is a patch and becomes a token; a code of its place in space and time is added, and all
tokens of a segment attend to each other. One set of weights serves any montage and any length from one patch on. What
does not fill a patch at the end of a segment is left out, as in the published code.

Source: El Ouahidi et al., NeurIPS 2025, arXiv 2510.21585. Against the authors' code: positions are never changed in
place and no generator is reseeded; the code of a place is computed once for each set of positions, not for each
segment; more frequencies than fit are cut also where the published code fails (twice their number equal to the width);
the code stays in single precision in half-precision training; attention pooling is part of the model. With
`orientation`, which is not published, the code also holds where a sensor points and of what type it is, so that MEG can
be read; these parts start at zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.base import Corpus, Encoder
from neuroloom.models.config import ReveConfig
from neuroloom.models.layers import Transformer, start_normal
from neuroloom.schema import ConfigError, describe_errors
from neuroloom.tokenizers.official import load_network, load_strictly
from neuroloom.tokenizers.sources import N_SENSOR_TYPES
from neuroloom.training.checkpoint import SETTINGS, save_network

PUBLISHED_SFREQ = 200.0
MARGIN = 0.4  # m around the origin: phases of -0.4 to 1.4 make one turn
TIME_SCALE = 0.1  # of a patch, in the periodic part of the code

# parts of our names and of the published ones, in the order in which they are replaced
NAMES = (
    (".attention.norm.", ".0.norm."),
    (".attention.qkv.", ".0.to_qkv."),
    (".attention.out.", ".0.to_out."),
    (".feed_forward.norm.", ".1.net.0."),
    (".feed_forward.widen.", ".1.net.1."),
    (".feed_forward.narrow.", ".1.net.3."),
    ("patch.", "to_patch_embedding.0."),
    ("place.linear.", "mlp4d.0."),
    ("place.inner.", "mlp4d.2."),
    ("place.norm.", "ln."),
    ("query_D", "cls_query_token"),
)
SETTINGS_OF = {
    "embed_dim": "embed_dim",
    "depth": "depth",
    "heads": "num_heads",
    "head_dim": "head_dim",
    "freqs": "n_frequencies",
    "mlp_dim_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "patch_overlap": "patch_overlap",
    "decoder_embed_dim": "decoder_embed_dim",
    "decoder_depth": "decoder_depth",
    "decoder_heads": "decoder_num_heads",
    "decoder_head_dim": "decoder_head_dim",
    "token_avg_lambda": "token_average",
    "noise_ratio": "position_noise",
}
NEEDED = ("embed_dim", "depth", "heads", "head_dim", "freqs")


class PositionCode(nn.Module):
    """The place of each patch in space and time, as a vector: periodic functions and a small network.

    Parameters
    ----------
    dim : int
        Width of a token.
    n_frequencies : int
        0 to `n_frequencies` - 1 turns over 1.8 m (or 18 patches) along each axis, in all combinations; those beyond
        half the width are left out.
    orientation : bool
        Sensors also have an orientation and a type.
    scale : float
        What positions are multiplied by first.
    """

    def __init__(self, dim: int, n_frequencies: int, *, orientation: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.dim, self.n_frequencies, self.scale = dim, n_frequencies, scale
        self.linear = nn.Linear(4, dim, bias=False)
        self.inner, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.turn = nn.Linear(3, dim, bias=False) if orientation else None
        self.kind = nn.Embedding(N_SENSOR_TYPES, dim) if orientation else None
        for part in (self.turn, self.kind):
            if part is not None:
                nn.init.zeros_(part.weight)

    def forward(self, sensors_BCF: Tensor, n_patches: int) -> Tensor:
        """What is known of sensors to (B, C * n_patches, D), channel by channel, in single precision.

        Parameters
        ----------
        sensors_BCF : tensor
            Position (m); with `orientation` also orientation and type, 7 numbers in all.
        n_patches : int
        """
        with torch.autocast(sensors_BCF.device.type, enabled=False):
            positions_BC3 = self.scale * sensors_BCF[..., :3].float()
            at_N = torch.arange(n_patches, device=positions_BC3.device, dtype=torch.float32)
            # the network is given the place as it is, so its first layer is one of space plus one of time
            space_BC1D = F.linear(positions_BC3, self.linear.weight[:, :3])[:, :, None]
            drawn_BCND = self.inner(F.gelu(space_BC1D + at_N[:, None] * self.linear.weight[:, 3]))
            code_BCND = self.norm(self.periodic(positions_BC3, at_N) + drawn_BCND)
            if self.turn is not None and self.kind is not None:
                turned_BCD = self.turn(sensors_BCF[..., 3:6].float()) + self.kind(sensors_BCF[..., 6].long())
                code_BCND = code_BCND + turned_BCD[:, :, None]
            return code_BCND.flatten(1, 2)

    def periodic(self, positions_BC3: Tensor, at_N: Tensor) -> Tensor:
        """Cosines, then sines, of all combinations of frequencies, (B, C, N, D)."""
        turns_F = torch.arange(self.n_frequencies, device=at_N.device) * (2 * math.pi / (1 + 2 * MARGIN))
        x, y, z = ((positions_BC3 + MARGIN)[..., None] * turns_F).unbind(dim=2)
        space = (x[..., :, None, None] + y[..., None, :, None] + z[..., None, None, :]).flatten(2)
        time_NF = (at_N * TIME_SCALE + MARGIN)[:, None] * turns_F
        phase = (space[:, :, None, :, None] + time_NF[:, None]).flatten(3)[..., : self.dim // 2]
        return torch.cat([phase.cos(), phase.sin()], dim=-1)


class REVE(Encoder):
    """The encoder, with attention pooling over its tokens.

    Parameters
    ----------
    config : ReveConfig
    sfreq : float
        Rate of the signals, Hz.
    """

    preparation = "reve"
    lora_targets = ("qkv", "out")

    def __init__(self, config: ReveConfig, sfreq: float = PUBLISHED_SFREQ) -> None:
        super().__init__()
        self.config, self.sfreq, self.embed_dim = config, sfreq, config.embed_dim
        self.patch = nn.Linear(config.patch_size, config.embed_dim)
        self.place = PositionCode(
            config.embed_dim, config.n_frequencies, orientation=config.orientation, scale=config.position_scale
        )
        self.transformer = Transformer(
            config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            mlp_ratio=config.mlp_ratio,
            local_start=config.local_start,
        )
        self.query_D = nn.Parameter(torch.empty(config.embed_dim))
        start_normal(self.query_D)

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Self:
        """The published model: its export, braindecode's module, or a checkpoint of the pretraining.

        Decoder, classification head and bank of positions are left aside. braindecode's module without attention
        pooling has no query, and here keeps the one that training starts with.

        Parameters
        ----------
        state : mapping
            Tensors by the published names.
        config : mapping
            The published settings (`embed_dim`, `depth`, `heads`, `head_dim`, `freqs`, ...).

        Raises
        ------
        ConfigError
            If a setting or a tensor is missing, unknown or of another shape, by name.
        """
        model = cls(config_of(config))
        ours = model.to_ours(state)
        if any(name.startswith("final_layer.") for name in state):
            ours.setdefault("query_D", model.query_D.detach())
        load_strictly(model, ours, source="published REVE weights")
        return model.eval()

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encoder's tensors of a published state by our names; what is not known keeps its name."""
        if any(name.startswith("encoder.") for name in state):
            kept = {name: value for name, value in state.items() if name.startswith(("encoder.", "cls_query_token"))}
            state = {name.removeprefix("encoder."): value for name, value in kept.items()}
        aside = ("final_layer.", "_position_bank.")
        ours = renamed({official_name(name): name for name in self.state_dict()}, state, aside=aside)
        if "query_D" in ours:
            ours["query_D"] = ours["query_D"].flatten()
        return ours

    def n_patches(self, n_times: int) -> int:
        """Patches that a number of samples holds."""
        hop = self.config.patch_size - self.config.patch_overlap
        return max((n_times - self.config.patch_size) // hop + 1, 0)

    def patches(self, signal_BCT: Tensor) -> Tensor:
        """Patches (B, C, N, samples) of a signal, without a copy.

        Raises
        ------
        ValueError
            If it is shorter than a patch.
        """
        size = self.config.patch_size
        if signal_BCT.shape[-1] < size:
            raise ValueError(
                f"{signal_BCT.shape[-1]} samples hold no patch of {size}; "
                f"give segments of {size / self.sfreq:g} s or more"
            )
        return signal_BCT.unfold(-1, size, size - self.config.patch_overlap)

    @torch.no_grad()
    def encode(self, eeg_BCT: Any, positions_BC3: Any) -> Tensor:
        """Tokens of prepared segments.

        Parameters
        ----------
        eeg_BCT : tensor or array
            Each channel at zero mean and unit SD over its recording, at `sfreq`.
        positions_BC3 : tensor or array
            Of the sensors, m in the head frame; a model with `orientation` wants what `sensors` gives, (B, C, 7).

        Returns
        -------
        tensor (B, C, patches, D)

        Raises
        ------
        ValueError
            Missing values, shapes that do not fit, or segments shorter than a patch.
        """
        eeg_BCT, positions_BC3 = torch.as_tensor(eeg_BCT).float(), torch.as_tensor(positions_BC3).float()
        known = 7 if self.config.orientation else 3
        if eeg_BCT.ndim != 3 or positions_BC3.shape != (*eeg_BCT.shape[:2], known) or 0 in eeg_BCT.shape:
            shapes = f"{tuple(eeg_BCT.shape)} and {tuple(positions_BC3.shape)}"
            raise ValueError(f"signal and sensors are {shapes}; (B, C, T) and (B, C, {known}) are needed, none empty")
        for name, values in (("values in", eeg_BCT), ("position of", positions_BC3)):
            if not torch.isfinite(values).all():
                lost = (~torch.isfinite(values)).any(-1).nonzero()[0].tolist()
                raise ValueError(f"missing {name} segment {lost[0]}, channel {lost[1]}; clean the recording first")
        return self(eeg_BCT, positions_BC3).unflatten(1, (eeg_BCT.shape[1], -1))

    def inputs(self, signal_BCT: Tensor, positions_BC6: Tensor, sensor_type_BC: Tensor) -> tuple[Tensor, ...]:
        """Signal, and what the model is told of its sensors."""
        return signal_BCT, self.sensors(positions_BC6, sensor_type_BC)

    def sensors(self, positions_BC6: Tensor, sensor_type_BC: Tensor) -> Tensor:
        """Position (B, C, 3), or with `orientation` also orientation and type (B, C, 7)."""
        if not self.config.orientation:
            return positions_BC6[..., :3]
        return torch.cat([positions_BC6, sensor_type_BC[..., None].to(positions_BC6.dtype)], dim=-1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Tokens (B, C * patches, D), channel by channel, of signals (B, C, T) and their sensors (B, C, 3 or 7)."""
        signal_BCT, sensors_BCF = inputs
        patches_BCNT = self.patches(signal_BCT)
        sets_UCF, row_B = distinct(sensors_BCF)
        code_UND = self.place(sets_UCF, patches_BCNT.shape[2])
        code_BND = code_UND if len(code_UND) in (1, len(row_B)) else code_UND[row_B]
        return self.transformer(self.patch(patches_BCNT).flatten(1, 2) + code_BND)

    def pool(self, tokens: Tensor) -> Tensor:
        """One vector (B, D) of all tokens (B, ..., D): attention of the learnt query, of one head, without weights."""
        tokens_BND = tokens.flatten(1, -2).float()
        with torch.autocast(tokens.device.type, enabled=False):
            weight_BN = torch.softmax(tokens_BND @ self.query_D * self.embed_dim**-0.5, dim=1)
            return (weight_BN[:, None] @ tokens_BND)[:, 0]

    def pretrain(
        self, corpus: Corpus, validation: Corpus, *, rng: np.random.Generator, folder: Path | None = None
    ) -> dict[str, Any]:
        """Learn to fill in hidden patches; see `reve_pretraining.pretrain_reve`."""
        from neuroloom.models.reve_pretraining import pretrain_reve

        return pretrain_reve(self, corpus.segments, rng=rng, validation=validation.segments, folder=folder)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""
        save_network(self, folder, kind="reve", sfreq=self.sfreq, config=self.config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ConfigError
            If the weights do not fit the settings.
        """
        settings = json.loads((folder / SETTINGS).read_text())
        return load_network(cls(ReveConfig(**settings["config"]), settings["sfreq"]), folder)

    @classmethod
    def create(cls, config: ReveConfig, *, sfreq: float, tokenizer: Any = None, seed: int = 0) -> Self:
        """A model with weights as training starts with them; it has no tokenizer."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, sfreq)


def distinct(sensors_BCF: Tensor) -> tuple[Tensor, Tensor]:
    """Montages that differ (U, C, F), and which one each row has (B,).

    On a GPU every row counts as a montage of its own: to see which are equal, it would have to be waited for.
    """
    if sensors_BCF.device.type != "cpu":
        return sensors_BCF, torch.arange(len(sensors_BCF), device=sensors_BCF.device)
    sets_UCF, row_B = torch.unique(sensors_BCF, dim=0, return_inverse=True)
    return (sets_UCF, row_B) if len(sets_UCF) < len(row_B) else (sensors_BCF, torch.arange(len(row_B)))


def official_name(name: str) -> str:
    """The published name of a tensor of ours."""
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def to_official(model: REVE) -> dict[str, Tensor]:
    """Weights by the published names: those of the authors' export, and of braindecode's with attention pooling.

    Raises
    ------
    ConfigError
        If the model knows orientations, or scales positions, which the published one does not.
    """
    if model.config.orientation or model.config.position_scale != 1:
        raise ConfigError(
            "a REVE model with orientation: true, or a position_scale other than 1, has no published counterpart; "
            "pretrain one without"
        )
    state = {official_name(name): value for name, value in model.state_dict().items()}
    return {**state, "cls_query_token": state["cls_query_token"][None, None]}


def renamed(
    ours_of: Mapping[str, str], state: Mapping[str, Tensor], *, aside: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Tensors by our names, without those of some beginnings."""
    return {ours_of.get(name, name): value for name, value in state.items() if not name.startswith(aside)}


def config_of(official: Mapping[str, Any]) -> ReveConfig:
    """Settings from the published ones; what is not in them is as published.

    Raises
    ------
    ConfigError
        If a setting is missing, or one that is not offered here.
    """
    missing = [name for name in NEEDED if name not in official]
    if missing or not official.get("use_geglu", True):
        problem = f"no {', '.join(missing)}" if missing else "use_geglu = false, which is not offered"
        raise ConfigError(f"settings of a REVE model: {problem}; give the config.json of the weights")
    settings = {ours: official[theirs] for theirs, ours in SETTINGS_OF.items() if theirs in official}
    if not official.get("token_avg", True):
        settings["token_average"] = 0.0
    try:
        return ReveConfig(**settings)
    except ValidationError as error:
        raise ConfigError(f"settings of a REVE model: {describe_errors(error)}") from error


MODEL = REVE
