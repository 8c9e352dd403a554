"""Files that others publish weights in: tensors by name, and the settings they were made with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def read_published(path: Path) -> dict[str, Tensor]:
    """Tensors of a published file by name, without a prefix that all names share.

    Raises
    ------
    ConfigError
        If there is no such file, or it holds something else.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise ConfigError(f"{path}: no such file; name the .safetensors or .pt that the authors publish")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken file makes of its reader is not foretold
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{path}: no tensors can be read ({reason}); fetch it again, or as .safetensors") from error
    nested = [name for name in ("state_dict", "model", "module") if isinstance(state, dict) and name in state]
    state = state[nested[0]] if nested else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{path}: holds more than named tensors; save the state_dict of the model alone")
    state = {name: value for name, value in state.items() if name.startswith("state/")} or state
    shared = os.path.commonprefix(list(state))  # noqa: RUF071 (names, not paths)
    start = max(shared.rfind("."), shared.rfind("/")) + 1
    return {name[start:]: value for name, value in state.items()}


def read_settings(path: Path, config: Path | None) -> dict[str, Any]:
    """Settings of published weights: from a file, from beside them, or from the metadata of a safetensors file.

    Raises
    ------
    ConfigError
        If there are none, or they are no JSON object.
    """
    from safetensors import safe_open

    source = config or path.with_name("model_cfg.json")
    if source.is_file():
        text = source.read_text()
    elif config is None and path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            source, text = path, (file.metadata() or {}).get("config", "")
    else:
        text = ""
    if not text:
        raise ConfigError(f"{source}: no settings there; name the authors' model_cfg.json with --config")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}: no JSON ({error}); give the authors' model_cfg.json with --config") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{source}: no JSON object; give the authors' model_cfg.json with --config")
    return settings
