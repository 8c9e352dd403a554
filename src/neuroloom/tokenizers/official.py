"""Names of published weights, and how they are called here.

Two writings are read: the authors' checkpoint (BrainTokenizer.pt with model_cfg.json) and braindecode's conversion of
it, which renames the quantizer and the decoder and keeps the sensors of one montage as buffers. Loading is strict:
every tensor is used, none is missing, each has its shape; what differs is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor, nn

from neuroloom.schema import ConfigError, describe_errors
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.training.checkpoint import WEIGHTS

N = TypeVar("N", bound=nn.Module)

# first from braindecode's writing to the authors', then to ours
_BRAINDECODE = (
    (r"^quantizer\.layers\.", "quantizer.rvq.layers."),
    (r"^final_layer\.", "decoder."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
)
_OURS = (
    (r"^sensor_embed\.pos_embedding_layer\.", "sensors.place."),
    (r"^sensor_embed\.sensor_embedding_layer\.", "sensors.kind."),
    (r"^sensor_embed\.aggregate_mlp\.layer\.", "sensors.mix."),
    (r"^sensor_embed\.norm\.", "sensors.norm."),
    (r"^encoder\.neuros$", "gather.latents_LD"),
    (r"^encoder\.k_proj\.", "gather.key."),
    (r"^encoder\.backwardsolution\.v\.", "gather.value."),
    (r"^encoder\.backwardsolution\.proj\.", "gather.out."),
    (r"^decoder\.forwardsolution\.kv\.", "scatter.key_value."),
    (r"^decoder\.forwardsolution\.proj\.", "scatter.out."),
    (r"^(en|de)coder\.seanet_\1coder\.model\.", r"\1coder.layers."),
    (r"\.block\.1\.", ".narrow."),
    (r"\.block\.3\.", ".widen."),
    (r"(\.conv){1,2}\.(weight_[gv]|bias)$", r".\2"),
    (r"(\.convtr){1,2}\.(weight_[gv]|bias)$", r".\2"),
    (r"^quantizer\.rvq\.layers\.(\d+)\._codebook\.", r"quantizer.levels.\1."),
    (r"\.embed$", ".embed_KD"),
    (r"\.embed_avg$", ".sums_KD"),
    (r"\.cluster_size$", ".counts_K"),
    (r"\.inited$", ".started"),
)
_MONTAGE = ("pos", "sensor_type")  # braindecode keeps those of one recording; here they come with the signal
_SETTINGS = {
    "window_length": "window_length",
    "n_filters": "n_filters",
    "ratios": "ratios",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "n_dim": "embed_dim",
    "n_neuro": "n_latents",
    "n_head": "num_heads",
    "codebook_size": "codebook_size",
    "num_quantizers": "num_quantizers",
    "rotation_trick": "rotation_trick",
}
_FIXED = {"dropout": 0.0, "quantize_optimize_method": "ema"}


def config_of(model_cfg: Mapping[str, Any]) -> BrainTokenizerConfig:
    """Settings from the authors' model_cfg.

    Raises
    ------
    ConfigError
        If a setting is missing, or one that is not offered here.
    """
    missing = sorted(_SETTINGS.keys() - model_cfg.keys())
    other = [f"{key} = {model_cfg[key]}" for key, only in _FIXED.items() if model_cfg.get(key, only) != only]
    if model_cfg.get("codebook_dim", model_cfg.get("n_dim")) != model_cfg.get("n_dim"):
        other.append(f"codebook_dim = {model_cfg['codebook_dim']} beside n_dim = {model_cfg['n_dim']}")
    if missing or other:
        problems = [f"no {', '.join(missing)}"] if missing else []
        raise ConfigError(f"model_cfg of a BrainTokenizer: {'; '.join(problems + other)}; give that of the checkpoint")
    try:
        return BrainTokenizerConfig(**{ours: model_cfg[theirs] for theirs, ours in _SETTINGS.items()})
    except ValidationError as error:
        raise ConfigError(f"model_cfg of a BrainTokenizer: {describe_errors(error)}") from error


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by our names, from either writing of the published ones.

    Raises
    ------
    ConfigError
        If two tensors would be the same weight.
    """
    names: dict[str, str] = {}
    for theirs in state:
        ours = _rename(theirs.removeprefix("tokenizer."))
        if ours in names:
            raise ConfigError(f"{names[ours]} and {theirs} are both {ours}; give the tensors of one checkpoint")
        if ours not in _MONTAGE:
            names[ours] = theirs
    return {ours: state[theirs] for ours, theirs in names.items()}


def _rename(name: str) -> str:
    for pattern, ours in _BRAINDECODE + _OURS:
        name = re.sub(pattern, ours, name)
    return name


def load_network(network: N, folder: Path) -> N:
    """Put the weights of a folder that `save_network` wrote into a network, for evaluation.

    Raises
    ------
    ConfigError
        If they do not fit its settings, such as a codebook of another size.
    """
    from safetensors.torch import load_file

    load_strictly(network, load_file(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return network.eval()


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put weights into a model of exactly these tensors.

    Raises
    ------
    ConfigError
        That names what is missing, what is not known and what has another shape.
    """
    wanted = model.state_dict()
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    problems = [f"missing {name}" for name in wanted if name not in state]
    problems += [f"unknown {name}" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(value.shape)}, not {shapes[name]}"
        for name, value in state.items()
        if name in shapes and tuple(value.shape) != shapes[name]
    ]
    if problems:
        listed = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise ConfigError(f"{source}: {listed}. The weights are of another model: give the settings they came with")
    model.load_state_dict(dict(state))
