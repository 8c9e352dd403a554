"""LaBraM: an encoder of patches of EEG, with a code for each electrode that it knows by name.

Each second of each channel is a patch and becomes a token by three convolutions; codes of its electrode and of its
second are added, a token without a patch is put in front, and all attend to each other. The average of the patches'
tokens is what is made of a segment. NeuroBOLT starts from its published weights.

Source: Jiang et al., ICLR 2024, arXiv 2405.18765. Against the authors' code: electrodes are known by name, whatever
their order; attention is torch's own; the scale of a layer's parts is multiplied into their last weights, not into
every token; a patch of another length than makes one token's width is brought to it by a linear layer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.config import LaBraMConfig
from neuroloom.models.layers import attend, start_normal
from neuroloom.schema import ConfigError, describe_errors
from neuroloom.signals.names import normalise_name
from neuroloom.tokenizers.official import load_network, load_strictly
from neuroloom.training.checkpoint import SETTINGS, save_network

EPSILON = 1e-6  # of its norms
KERNEL, STRIDE = 15, 8  # samples, of the first convolution
GROUPS = 4  # of filters that are normed together
PUBLISHED_DIM, START_SD = 200, 0.02


def _row(prefix: str, columns: str) -> tuple[str, ...]:
    return tuple(prefix + column for column in columns.split())


# electrodes in the order of the published codes, 1 to 128; code 0 belongs to the token without a patch
ELECTRODES: tuple[str, ...] = (
    *("FP1", "FPZ", "FP2"),
    *_row("AF", "9 7 5 3 1 Z 2 4 6 8 10"),
    *_row("F", "9 7 5 3 1 Z 2 4 6 8 10"),
    *("FT9", "FT7", *_row("FC", "5 3 1 Z 2 4 6"), "FT8", "FT10"),
    *("T9", "T7", *_row("C", "5 3 1 Z 2 4 6"), "T8", "T10"),
    *("TP9", "TP7", *_row("CP", "5 3 1 Z 2 4 6"), "TP8", "TP10"),
    *_row("P", "9 7 5 3 1 Z 2 4 6 8 10"),
    *_row("PO", "9 7 5 3 1 Z 2 4 6 8 10"),
    *("O1", "OZ", "O2", "O9", "CB1", "CB2", "IZ", "O10", "T3", "T5", "T4", "T6", "M1", "M2", "A1", "A2"),
    *_row("CFC", "1 2 3 4 5 6 7 8"),
    *_row("CCP", "1 2 3 4 5 6 7 8"),
    *("T1", "T2", "FTT9H", "TTP7H", "TPP9H", "FTT10H", "TPP8H", "TPP10H"),
    *("FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP2-F8", "F8-T8", "T8-P8", "P8-O2"),
)

# parts of the published names and of ours
NAMES = (
    (r"^cls_token$", "cls_D"),
    (r"^pos_embed$", "place_CD"),
    (r"^time_embed$", "time_ND"),
    (r"^patch_embed\.", "patch."),
    (r"^fc_norm\.", "norm."),
    (r"^(blocks\.\d+)\.norm1\.", r"\1.attention_norm."),
    (r"^(blocks\.\d+)\.norm2\.", r"\1.mlp.norm."),
    (r"\.gamma_1$", ".attention_scale_D"),
    (r"\.gamma_2$", ".mlp_scale_D"),
    (r"\.attn\.qkv\.", ".qkv."),
    (r"\.attn\.proj\.", ".out."),
    (r"\.attn\.q_norm\.", ".query_norm."),
    (r"\.attn\.k_norm\.", ".key_norm."),
    (r"\.mlp\.fc1\.", ".mlp.widen."),
    (r"\.mlp\.fc2\.", ".mlp.narrow."),
)
# of the pretraining: its head, the token in place of hidden patches, and a norm before the average is taken
ASIDE = ("lm_head.", "projection_head.", "mask_token", "norm.", "head.")


class Patches(nn.Module):
    """Three convolutions over the samples of a patch, and as many norms over all patches of a segment."""

    def __init__(self, config: LaBraMConfig) -> None:
        super().__init__()
        filters = config.n_filters
        self.conv1 = nn.Conv2d(1, filters, (1, KERNEL), stride=(1, STRIDE), padding=(0, KERNEL // 2))
        self.conv2 = nn.Conv2d(filters, filters, (1, 3), padding=(0, 1))
        self.conv3 = nn.Conv2d(filters, filters, (1, 3), padding=(0, 1))
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(GROUPS, filters) for _ in range(3))
        made = filters * ((config.patch_size - 1) // STRIDE + 1)
        self.fit = nn.Identity() if made == config.embed_dim else nn.Linear(made, config.embed_dim)

    def forward(self, patches_BNT: Tensor) -> Tensor:
        """Tokens (B, N, D) of patches."""
        x_BFNT = patches_BNT[:, None]
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x_BFNT = F.gelu(norm(conv(x_BFNT)))
        return self.fit(x_BFNT.permute(0, 2, 3, 1).flatten(2))


class Mlp(nn.Module):
    """To a wider layer, through a GELU, and back."""

    def __init__(self, dim: int, hidden: int, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=epsilon)
        self.widen, self.narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def hidden(self, x_BND: Tensor) -> Tensor:
        """The wider layer (B, N, hidden) of tokens."""
        return F.gelu(self.widen(self.norm(x_BND)))

    def forward(self, x_BND: Tensor) -> Tensor:
        """What is added to the tokens."""
        return self.narrow(self.hidden(x_BND))


class Block(nn.Module):
    """Attention with normed queries and keys, then an Mlp; each is scaled and added to what it reads."""

    def __init__(self, config: LaBraMConfig, drop_path: float) -> None:
        super().__init__()
        dim, self.num_heads = config.embed_dim, config.num_heads
        self.dropout, self.drop_path = config.dropout, drop_path
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_norm, self.key_norm = (nn.LayerNorm(dim // self.num_heads, eps=EPSILON) for _ in range(2))
        self.out = nn.Linear(dim, dim)
        self.attention_scale_D = nn.Parameter(torch.full((dim,), config.layer_scale))
        self.mlp = Mlp(dim, int(config.mlp_ratio * dim))
        self.mlp_scale_D = nn.Parameter(torch.full((dim,), config.layer_scale))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Tokens that have read each other."""
        x_BND = self._added(x_BND, self._attended(x_BND), self.out, self.attention_scale_D)
        return self._added(x_BND, self.mlp.hidden(x_BND), self.mlp.narrow, self.mlp_scale_D)

    def _added(self, x_BND: Tensor, found_BNF: Tensor, layer: nn.Linear, scale_D: Tensor) -> Tensor:
        """Tokens, and a linear layer of what was found, with dropout and for some samples not at all.

        Scales and what makes up for dropout go into the weights, which are fewer than tokens. Leaving out a part for a
        whole sample is stochastic depth (Huang et al. 2016, arXiv 1603.09382).
        """
        if self.training:
            scale_D = scale_D / ((1 - self.dropout) * (1 - self.drop_path))
        added_BND = F.linear(found_BNF, layer.weight * scale_D[:, None], layer.bias * scale_D)
        if self.training and (self.dropout or self.drop_path):
            lost_BND = draw_lost(added_BND.shape, self.dropout, x_BND.device)
            lost_BND |= torch.rand(len(x_BND), 1, 1, device=x_BND.device) < self.drop_path
            added_BND = added_BND.masked_fill(lost_BND, 0)
        return x_BND + added_BND

    def _attended(self, x_BND: Tensor) -> Tensor:
        queries_BND, keys_BND, values_BND = self.qkv(self.attention_norm(x_BND)).chunk(3, dim=-1)
        queries_BND, keys_BND = (
            norm(part.unflatten(-1, (self.num_heads, -1))).flatten(2).to(values_BND.dtype)
            for norm, part in ((self.query_norm, queries_BND), (self.key_norm, keys_BND))
        )
        return attend(queries_BND, keys_BND, values_BND, self.num_heads)


class LaBraM(nn.Module):
    """The encoder.

    Parameters
    ----------
    config : LaBraMConfig
    """

    def __init__(self, config: LaBraMConfig) -> None:
        super().__init__()
        self.config, dim, depth = config, config.embed_dim, config.depth
        self.patch = Patches(config)
        self.cls_D = nn.Parameter(torch.zeros(dim))
        self.place_CD = nn.Parameter(torch.zeros(1 + len(ELECTRODES), dim))
        self.time_ND = nn.Parameter(torch.zeros(config.n_patches, dim))
        rates = [config.drop_path * layer / max(depth - 1, 1) for layer in range(depth)]
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Weights as published: normal, and smaller the deeper what they are added to."""
        start_linear(self, self.config.embed_dim)
        for codes in (self.cls_D, self.place_CD, self.time_ND):
            start_normal(codes, START_SD)
        blocks: list[Any] = list(self.blocks)
        for at, block in enumerate(blocks):
            for part in (block.out, block.mlp.narrow):
                part.weight /= (2 * (at + 1)) ** 0.5

    @classmethod
    def from_official(cls, state: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Self:
        """The published encoder, such as `labram-base`.

        Of a checkpoint of the pretraining, whose names begin with `student.`, only the encoder is read: heads, the
        token of hidden patches and the norm before the average are left aside, and the norm after it starts anew, as
        the authors' fine-tuning does.

        Parameters
        ----------
        state : mapping
            Tensors or arrays by the published names.
        config : mapping, optional
            The published settings; those that the tensors' shapes tell need not be there.

        Raises
        ------
        ConfigError
            If a tensor is missing, unknown or of another shape, by name, or a setting is not offered.
        """
        try:
            model = cls(LaBraMConfig(**labram_settings(state, config or {})))
        except ValidationError as error:
            raise ConfigError(f"settings of a LaBraM: {describe_errors(error)}") from error
        load_strictly(model, model.to_ours(state), source="published LaBraM weights")
        return model.eval()

    def to_ours(self, state: Mapping[str, Any], aside: tuple[str, ...] = ASIDE) -> dict[str, Tensor]:
        """Published tensors by our names, without those of some beginnings; what is not known keeps its name."""
        state, pretrained = without_prefix(state)
        kept = {name: value for name, value in state.items() if not name.startswith(aside)}
        ours = {our_name(name): torch.as_tensor(value) for name, value in kept.items()}
        ours |= {name: ours[name].flatten(0, -2) for name in ("place_CD", "time_ND") if name in ours}
        if "cls_D" in ours:
            ours["cls_D"] = ours["cls_D"].flatten()
        if pretrained:
            for name, value in self.norm.state_dict().items():
                ours.setdefault(f"norm.{name}", value)
        return ours

    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""
        config = LaBraMConfig(**{name: getattr(self.config, name) for name in LaBraMConfig.model_fields})
        save_network(self, folder, kind="labram", sfreq=float(config.patch_size), config=config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ConfigError
            If the weights do not fit the settings.
        """
        settings = json.loads((folder / SETTINGS).read_text())
        return load_network(cls(LaBraMConfig(**settings["config"])), folder)

    def forward(self, eeg_BCT: Tensor, rows_C: Tensor) -> Tensor:
        """One vector (B, D) of each segment.

        Parameters
        ----------
        eeg_BCT : tensor
            uV / 100; whole patches.
        rows_C : int tensor
            Codes of the channels' electrodes, as `electrode_rows` gives them plus one.
        """
        x_BND = self.tokens(eeg_BCT, rows_C)
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.norm(x_BND[:, 1:].mean(dim=1))

    def tokens(self, eeg_BCT: Tensor, rows_C: Tensor) -> Tensor:
        """What the first block reads (B, 1 + C * patches, D): the token without a patch, then channel by channel."""
        patches_BCNT = eeg_BCT.unflatten(-1, (-1, self.config.patch_size))
        n_patches = patches_BCNT.shape[2]
        code_CND = self.place_CD[rows_C][:, None] + self.time_ND[:n_patches]
        x_BND = self.patch(patches_BCNT.flatten(1, 2)) + code_CND.flatten(0, 1)
        first_1D = (self.cls_D + self.place_CD[0])[None]
        x_BND = torch.cat([first_1D.expand(len(x_BND), 1, -1).to(x_BND.dtype), x_BND], dim=1)
        return dropped(x_BND, self.config.dropout, training=self.training)


def draw_lost(shape: Sequence[int], rate: float, device: torch.device) -> Tensor:
    """Which elements dropout takes, by torch's generator: sixteen bits for each, a fifth of the time of torch's own."""
    count = math.prod(shape)
    bits_N = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None)
    return (bits_N.view(torch.int16)[:count] < round(rate * 2**16) - 2**15).view(shape)


def dropped(x_BND: Tensor, rate: float, *, training: bool) -> Tensor:
    """With dropout in training."""
    if not (training and rate):
        return x_BND
    return (x_BND / (1 - rate)).masked_fill(draw_lost(x_BND.shape, rate, x_BND.device), 0)


def start_linear(module: nn.Module, dim: int) -> None:
    """Weights of linear layers as published, wider where a token is narrower; biases of zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            start_normal(part.weight, START_SD * (PUBLISHED_DIM / dim) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def electrode_rows(ch_names: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where each channel stands among the known electrodes, whatever its spelling (`Fp1`, `EEG FP1-REF`, `T3`).

    Raises
    ------
    ConfigError
        If an electrode is not known, or two channels are one.
    """
    at = {name.upper(): row for row, name in enumerate(known)}
    found = [_find(name, at) for name in ch_names]
    if unknown := [name for name, row in zip(ch_names, found, strict=True) if row is None]:
        raise ConfigError(
            f"no code for {', '.join(unknown)}; known electrodes are {', '.join(known)}. Leave these channels out"
        )
    rows = [row for row in found if row is not None]
    if twice := [name for name, row in zip(ch_names, rows, strict=True) if rows.count(row) > 1]:
        raise ConfigError(f"channels {', '.join(twice)} are at one electrode; leave one of them out")
    return rows


def _find(name: str, at: Mapping[str, int]) -> int | None:
    spelt = name.strip().upper()
    return at[spelt] if spelt in at else at.get(normalise_name(name).upper())


def our_name(name: str) -> str:
    """Our name of a published tensor."""
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name


def without_prefix(state: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Tensors without `student.`, and whether they come from the pretraining."""
    pretrained = any(name.startswith("student.") or name == "mask_token" for name in state)
    return {name.removeprefix("student."): value for name, value in state.items()}, pretrained


_FIXED = {"in_chans": 1, "qkv_bias": False, "use_mean_pooling": True, "use_rel_pos_bias": False}
_SETTINGS = {
    "embed_dim": "embed_dim",
    "depth": "depth",
    "num_heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "patch_size": "patch_size",
    "out_chans": "n_filters",
    "init_values": "layer_scale",
    "drop_rate": "dropout",
    "drop_path_rate": "drop_path",
}


def labram_settings(state: Mapping[str, Any], official: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of our encoder from the published ones, and from shapes where these do not say.

    Raises
    ------
    ConfigError
        If a setting is not offered here.
    """
    other = [f"{name} = {official[name]}" for name, only in _FIXED.items() if official.get(name, only) != only]
    if other:
        raise ConfigError(f"settings of a LaBraM: {', '.join(other)}, which is not offered")
    state, _ = without_prefix(state)
    told = {ours: official[theirs] for theirs, ours in _SETTINGS.items() if theirs in official}
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    layers = {int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")}
    seen = {"depth": max(layers) + 1} if layers else {}
    if "time_embed" in shapes:
        seen |= {"n_patches": shapes["time_embed"][1], "embed_dim": shapes["time_embed"][2]}
        if "blocks.0.attn.q_norm.weight" in shapes:
            seen["num_heads"] = seen["embed_dim"] // shapes["blocks.0.attn.q_norm.weight"][0]
    return {**seen, **told}
