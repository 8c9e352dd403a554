"""NeuroBOLT: 16 s of EEG before an fMRI volume to the BOLD signal of parcels at that volume.

A spatiotemporal branch (LaBraM's encoder, from its published weights if these are given) and a spectral branch
(`spectral.py`) make one vector each; a GELU of their sum is read by a linear layer. No delay of the haemodynamics is
assumed.

Source: Li et al., NeurIPS 2024, arXiv 2410.05341. Against the authors' code: what `labram.py` and `spectral.py` name;
channels are known by name in both branches; the index of electrodes is a buffer, no parameter; all parcels may share
one model (`whole_brain`); dropout is off outside of training.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.config import NEUROBOLT_ELECTRODES, NeuroBOLTConfig
from neuroloom.models.labram import ELECTRODES, LaBraM, electrode_rows, labram_settings, start_linear
from neuroloom.models.spectral import SpectralBranch, code_of_time
from neuroloom.schema import ConfigError, describe_errors
from neuroloom.tokenizers.official import load_network, load_strictly
from neuroloom.training.checkpoint import SETTINGS, save_network

logger = logging.getLogger(__name__)
HEAD_SCALE = 1e-3  # of the weights that training starts with, so that predictions start at zero
FIRST_SCALE = 100  # samples, of the published spectra; each further one is twice as long
UNDECAYED = ("cls_D", "place_CD", "time_ND")

# parts of the published names of the spectral branch and of ours
NAMES = (
    (r"^mss_module\.channel_tokens\.", "spectral.electrode."),
    (r"^mss_module\.index$", "spectral.index_C"),
    (r"^mss_module\.patch_embedding\.(\d+)\.projection\.", r"spectral.frequencies.\1."),
    (r"^mss_module\.ts_embedding\.(\d+)\.projection\.", r"spectral.mixes.\1."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.0\.norm\.", r"spectral.layers.\1.norm."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.0\.fn\.to_([qkv])\.", r"spectral.layers.\1.to_\2."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.0\.fn\.to_out\.", r"spectral.layers.\1.out."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.1\.norm\.", r"spectral.layers.\1.mlp.norm."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.1\.fn\.fn\.w1\.", r"spectral.layers.\1.mlp.widen."),
    (r"^mss_module\.transformer\.layers\.layers\.(\d+)\.1\.fn\.fn\.w2\.", r"spectral.layers.\1.mlp.narrow."),
)
_POSITIONS = "mss_module.positional_encoding.pe"


class NeuroBOLT(nn.Module):
    """The network.

    Parameters
    ----------
    config : NeuroBOLTConfig
    """

    def __init__(self, config: NeuroBOLTConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial = LaBraM(config)
        self.spectral = SpectralBranch(config)
        self.head = nn.Linear(config.embed_dim, config.n_outputs)
        start_linear(self.spectral, config.embed_dim)
        start_linear(self.head, config.embed_dim)
        with torch.no_grad():
            self.head.weight *= HEAD_SCALE
        self._rows: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    @classmethod
    def create(cls, config: NeuroBOLTConfig, *, seed: int = 0) -> Self:
        """A model with weights as training starts with them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @classmethod
    def from_official(cls, state: Mapping[str, Any], config: Mapping[str, Any]) -> Self:
        """The published model.

        Published weights do not name their electrodes. `ch_names` among the settings does; without it, channels of the
        published montage are known by name, and others are taken in the order they come in, as the authors' code does.

        Parameters
        ----------
        state : mapping
            Tensors or arrays by the published names.
        config : mapping
            The published settings (`depth`, `EEG_channel`, `num_roi`, `win_level`, ...); those that are not there are
            as published.

        Raises
        ------
        ConfigError
            If a setting is not offered, or a tensor is missing, unknown or of another shape, by name.
        """
        model = cls(config_of(state, config))
        load_strictly(model, model.to_ours(state), source="published NeuroBOLT weights")
        return model.eval()

    @classmethod
    def from_labram(cls, state: Mapping[str, Any] | LaBraM, config: NeuroBOLTConfig, *, seed: int = 0) -> Self:
        """A model to be trained, whose spatiotemporal branch has the weights of a LaBraM.

        Parameters
        ----------
        state : mapping or LaBraM
            Tensors or arrays by the published names, such as those of `labram-base`, or a model that was read before.
        config : NeuroBOLTConfig
        seed : int
            Of the weights of the other parts.

        Raises
        ------
        ConfigError
            If they are of another size, by name.
        """
        model = cls.create(config, seed=seed)
        ours = state.state_dict() if isinstance(state, LaBraM) else model.spatial.to_ours(state)
        load_strictly(model.spatial, ours, source="LaBraM weights")
        return model

    def to_ours(self, state: Mapping[str, Any]) -> dict[str, Tensor]:
        """Published tensors by our names, queries, keys and values together; what is not known keeps its name."""
        tensors = {name: torch.as_tensor(value) for name, value in state.items()}
        apart = ("mss_module.", "head.")
        ours = {f"spatial.{n}": v for n, v in self.spatial.to_ours(_without(tensors, apart), aside=()).items()}
        ours |= {_our_name(name): value for name, value in tensors.items() if name.startswith(apart)}
        _check_positions(ours.pop(_POSITIONS, None), self.config.embed_dim)
        for at in range(self.config.spectral_depth):
            names = [f"spectral.layers.{at}.to_{part}.weight" for part in "qkv"]
            if all(name in ours for name in names):
                ours[f"spectral.layers.{at}.qkv.weight"] = torch.cat([ours.pop(name) for name in names])
        return ours

    def forward(self, eeg_BCT: Tensor, ch_names: Sequence[str]) -> Tensor:
        """BOLD of the parcels at the end of the EEG.

        Parameters
        ----------
        eeg_BCT : tensor
            In units of 100 uV (V x 1e4, not V), at `sfreq`, of `window` s; each channel at zero mean, as published.
        ch_names : sequence of str
            Names of the channels, in their order; any of the electrodes that the model knows.

        Returns
        -------
        tensor (B, P)

        Raises
        ------
        ConfigError
            If a name is not known, or two are one.
        ValueError
            If the shape does not fit.
        """
        return self.head(self.features(eeg_BCT, ch_names))

    def features(self, eeg_BCT: Tensor, ch_names: Sequence[str]) -> Tensor:
        """What the last layer reads (B, D); parameters and errors as for `forward`."""
        expected = (len(ch_names), self.config.n_times)
        if eeg_BCT.ndim != 3 or eeg_BCT.shape[1:] != expected:
            raise ValueError(
                f"EEG is {tuple(eeg_BCT.shape)}; (batch, {expected[0]} named channels, {expected[1]}) needed"
            )
        place_C, electrode_C = self.rows(ch_names)
        return F.gelu(self.spatial(eeg_BCT, place_C) + self.spectral(eeg_BCT, electrode_C))

    def rows(self, ch_names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Rows of channels in the codes of places of the one branch, and of electrodes of the other."""
        key = tuple(ch_names)
        if key not in self._rows:
            electrode, place = self._electrodes(key), [1 + row for row in electrode_rows(key, ELECTRODES)]
            self._rows[key] = torch.tensor(place), torch.tensor(electrode)
        device = self.spectral.index_C.device
        self._rows[key] = tuple(rows.to(device) for rows in self._rows[key])  # type: ignore[assignment]
        return self._rows[key]

    def _electrodes(self, ch_names: tuple[str, ...]) -> list[int]:
        if self.config.electrodes is not None:
            return electrode_rows(ch_names, self.config.electrodes)
        published = {name.upper() for name in ch_names} <= set(NEUROBOLT_ELECTRODES)
        if published and self.config.n_electrodes == len(NEUROBOLT_ELECTRODES):
            return electrode_rows(ch_names, NEUROBOLT_ELECTRODES)
        if len(ch_names) != self.config.n_electrodes:
            raise ConfigError(
                f"{len(ch_names)} channels for weights of {self.config.n_electrodes} electrodes that are not named, "
                f"among them {ch_names[0]}; give their names as ch_names in the settings of from_official"
            )
        logger.warning("the weights do not name their electrodes: channels are taken in the order they come in")
        return list(range(len(ch_names)))

    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""
        save_network(self, folder, kind="neurobolt", sfreq=self.config.sfreq, config=self.config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ConfigError
            If the weights do not fit the settings.
        """
        settings = json.loads((folder / SETTINGS).read_text())
        return load_network(cls(NeuroBOLTConfig(**settings["config"])), folder)


class ParcelModels(nn.Module):
    """The `published` mode: a model for each parcel, side by side, which share nothing.

    Parameters
    ----------
    config : NeuroBOLTConfig
        `n_outputs` is their number.
    seed : int
        All start with the same weights, as published.
    """

    def __init__(self, config: NeuroBOLTConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config, one = config, config.model_copy(update={"n_outputs": 1})
        self.models = nn.ModuleList(NeuroBOLT.create(one, seed=seed) for _ in range(config.n_outputs))

    def forward(self, eeg_BCT: Tensor, ch_names: Sequence[str]) -> Tensor:
        """BOLD (B, P) of the parcels; as `NeuroBOLT`."""
        return torch.cat([model(eeg_BCT, ch_names) for model in self.models], dim=1)


def parameter_groups(
    model: NeuroBOLT, *, lr: float = 3e-4, weight_decay: float = 0.05, layer_decay: float = 0.65
) -> list[dict[str, Any]]:
    """Groups for an optimizer, as published: a lower rate for lower layers, and no decay of norms, biases and codes.

    Parameters
    ----------
    model : NeuroBOLT
    lr : float
        Rate of the highest layer: both heads and all of the spectral branch.
    weight_decay : float
        Of tensors of two axes or more that are no codes of time and place.
    layer_decay : float
        Rate of a layer over that of the one above it.

    Returns
    -------
    list of dict
        `layer` (0: patches and places, 1 to depth: blocks, depth + 1: the rest, codes of time among them), `lr`,
        `weight_decay`, `params`; layer by layer.
    """
    depth = model.config.depth
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, param in model.named_parameters():
        decayed = param.ndim > 1 and not name.endswith(UNDECAYED)
        if param.requires_grad:
            found.setdefault((layer_of(name, depth), decayed), []).append(param)
    return [
        {
            "layer": layer,
            "lr": lr * layer_decay ** (depth + 1 - layer),
            "weight_decay": weight_decay if decayed else 0.0,
            "params": params,
        }
        for (layer, decayed), params in sorted(found.items(), key=lambda item: item[0])
    ]


def layer_of(name: str, depth: int) -> int:
    """Layer that a parameter counts to: 0 below the blocks, 1 to depth in them, depth + 1 above and beside them."""
    if name.startswith(("spatial.patch.", "spatial.cls_D", "spatial.place_CD")):
        return 0
    found = re.match(r"spatial\.blocks\.(\d+)\.", name)
    return int(found[1]) + 1 if found else depth + 1


def config_of(state: Mapping[str, Any], official: Mapping[str, Any]) -> NeuroBOLTConfig:
    """Settings from the published ones and the shapes of the weights; what neither says is as published.

    Raises
    ------
    ConfigError
        If a setting is not offered here.
    """
    settings = labram_settings(state, official)
    sfreq, names = float(official.get("patch_size", 200)), official.get("ch_names")
    n_times = official.get("EEG_length", 16 * sfreq)
    settings |= {"n_outputs": official.get("num_roi", 1), "n_electrodes": official.get("EEG_channel", 26)}
    settings |= {"electrodes": tuple(names) if names else None, "sfreq": sfreq, "window": n_times / sfreq}
    settings["scales"] = tuple(FIRST_SCALE * 2**level for level in range(official.get("win_level", 3) + 1))
    try:
        return NeuroBOLTConfig(**settings)
    except ValidationError as error:
        raise ConfigError(f"settings of a NeuroBOLT: {describe_errors(error)}") from error


def _without(tensors: Mapping[str, Tensor], beginnings: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if not name.startswith(beginnings)}


def _our_name(name: str) -> str:
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name


def _check_positions(position_1ND: Tensor | None, dim: int) -> None:
    """The code of time follows from its shape, so it is compared, not read."""
    if position_1ND is None:
        return
    expected_ND = code_of_time(position_1ND.shape[1], dim)
    if position_1ND.shape[2:] != (dim,) or not torch.allclose(position_1ND[0], expected_ND, atol=1e-4):
        raise ConfigError(f"{_POSITIONS}: no sines and cosines of {dim} columns; the weights are of another model")
