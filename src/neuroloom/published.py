"""Files that others publish weights in: tensors by name, and the settings they were made with.

Safetensors, or a checkpoint of torch: a zip of plain numbers and one pickle that says where each tensor lies in them.
The pickle is followed as a description (`neuroloom.pickled`), so that no code of a stranger ever runs.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.pickled import PERSISTENT, Made, describe
from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {  # https://docs.pytorch.org/docs/stable/storage.html
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
TENSOR, PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"


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
        state: Any = load_file(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    except Exception as error:  # what a broken file makes of its reader is not foretold
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(f"{path}: no tensors can be read ({reason}); fetch it again, or as .safetensors") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ConfigError(f"{path}: holds more than named tensors; save the state_dict of the model alone")
    state = {name: value for name, value in state.items() if name.startswith("state/")} or state
    shared = os.path.commonprefix(list(state))  # noqa: RUF071 (names, not paths)
    start = max(shared.rfind("."), shared.rfind("/")) + 1
    return {name[start:]: value for name, value in state.items()}


def _read_checkpoint(path: Path) -> Any:
    """What a checkpoint holds, tensors in the place of their descriptions; of nested ones, the state of the model."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed entries, which torch never writes")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("entries that are larger than the file")
        names = [entry.filename for entry in entries if entry.filename.endswith("data.pkl")]
        if len(names) != 1:
            raise ValueError(f"{len(names)} entries data.pkl; save it again with torch 1.6 or later")
        folder = names[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("numbers with the high byte first")
        content = _entries(describe(archive.read(names[0])))
        nested = [name for name in ("state_dict", "model", "module") if isinstance(content, dict) and name in content]
        state = _entries(content[nested[0]]) if nested else content
        if not isinstance(state, dict):
            return state
        numbers: dict[Any, Tensor] = {}
        return {name: _tensor(value, archive, folder, numbers) for name, value in state.items()}


def _entries(value: Any) -> Any:
    """A dict, of whichever kind."""
    return value.items if isinstance(value, Made) and value.name == "collections.OrderedDict" else value


def _tensor(value: Any, archive: zipfile.ZipFile, folder: str, numbers: dict[Any, Tensor]) -> Any:
    """The tensor that a description stands for; all else as it is."""
    import torch

    if isinstance(value, Made) and value.name == PARAMETER:
        value = value.args[0]
    if not isinstance(value, Made) or value.name != TENSOR:
        return value
    storage, offset, size, stride, *_ = value.args
    if storage.name != PERSISTENT or storage.args[0] != "storage":
        raise ValueError(f"a tensor of {storage.name}")
    _, kind, key, _, _ = storage.args
    dtype = getattr(torch, DTYPES[kind.name.removeprefix("torch.")])
    if (key, dtype) not in numbers:
        data = bytearray(archive.read(f"{folder}data/{key}"))
        numbers[key, dtype] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    flat = numbers[key, dtype]
    if math.prod(size) > flat.numel():
        raise ValueError(f"a tensor of {size} out of {flat.numel()} numbers")
    return torch.as_strided(flat, size, stride, offset)


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
        text = source.read_bytes()
    elif config is None and path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            source, text = path, (file.metadata() or {}).get("config", "").encode()
    else:
        text = b""
    if not text:
        raise ConfigError(f"{source}: no settings there; name the authors' model_cfg.json with --config")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: no JSON ({error}); give the authors' model_cfg.json with --config") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{source}: no JSON object; give the authors' model_cfg.json with --config")
    return settings
