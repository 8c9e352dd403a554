"""Weights on disk: the card of a finished model, and the state of a run that may be killed at any time.

Tensors are safetensors, the rest is JSON; nothing is pickled. A file has its name only once it is whole.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroloom.manifest import ArtifactError
from neuroloom.provenance import config_digest, file_digest
from neuroloom.schema import Frozen
from neuroloom.training.processes import is_first
from neuroloom.training.sampling import Position

if TYPE_CHECKING:
    import torch
    from torch import Tensor

logger = logging.getLogger(__name__)
WEIGHTS, SETTINGS, CARD = "model.safetensors", "config.json", "card.json"  # of finished weights
STATE, TENSORS = "state.json", ("weights", "optimizer", "averaged")
AGAIN = "Delete the folder and make it again"


@dataclass(frozen=True)
class TrainingState:
    """What a run goes on from.

    Attributes
    ----------
    run : str
        Digest of seed, settings and data, which a resumed run must share.
    step, tokens : int
        Steps done, and tokens seen in them.
    position : Position
        Of the next batch. Random numbers follow from seed and step, so they need no state of their own.
    weights, optimizer, averaged : dict of Tensor
        By name; `averaged` is empty where no average is kept.
    groups : list of dict
        Options of the optimizer's groups.
    """

    run: str
    step: int
    tokens: int
    position: Position
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    averaged: dict[str, Tensor]
    groups: list[dict[str, Any]]


def write_settings(folder: Path, *, kind: str, sfreq: float, config: Frozen, **more: Frozen) -> None:
    """What a network is built from, beside its weights; `more` are settings of networks inside it, by name."""
    configs = {name: one.model_dump() for name, one in {"config": config, **more}.items()}
    (folder / SETTINGS).write_text(json.dumps({"kind": kind, "sfreq": sfreq, **configs}, indent=1) + "\n")


def save_network(
    network: torch.nn.Module, folder: Path, *, kind: str, sfreq: float, config: Frozen, **more: Frozen
) -> None:
    """Weights of a network as safetensors, and its settings (`write_settings`)."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS)
    write_settings(folder, kind=kind, sfreq=sfreq, config=config, **more)


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write the card of finished weights, last of all files of a model: it names the sha256 of the weights.

    Parameters
    ----------
    folder : Path
        Holds model.safetensors.
    card : mapping
        Where the weights came from: architecture, digests of the data, the people that they have seen.
    """
    _write_json(folder / CARD, {**card, "weights_sha256": file_digest(folder / WEIGHTS)})


def read_card(folder: Path) -> dict[str, Any]:
    """The card of finished weights.

    Raises
    ------
    ArtifactError
        It is missing or damaged, or the weights are not those that it names.
    """
    card = _read_json(folder / CARD)
    if file_digest(folder / WEIGHTS) != card.get("weights_sha256"):
        raise ArtifactError(f"{folder / WEIGHTS}: the weights have changed since {CARD} was written. {AGAIN}")
    return card


def match_state(module: torch.nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load weights into a module: every tensor must be there, have its shape, and be wanted.

    Raises
    ------
    ArtifactError
        Lists the tensors that are missing, not known to the module, or of another shape or kind.
    """
    wanted = module.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{name} is not known to the model" for name in state if name not in wanted]
    for name in (name for name in wanted if name in state):
        found, expected = state[name], wanted[name]
        if found.shape != expected.shape or found.is_floating_point() != expected.is_floating_point():
            problems.append(f"{name} is {_kind(found)}, not {_kind(expected)}")
    if problems:
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ArtifactError(
            f"{source}: {len(problems)} of {len(wanted)} tensors do not fit {type(module).__name__}; "
            "build it with the settings that the weights came with\n  " + "\n  ".join(problems[:20]) + more
        )
    module.load_state_dict(dict(state))


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int) -> Path:
    """Write the state of a run to `folder/step-<step>`, by rename, and remove all but the last ones."""
    path = folder / f"step-{state.step:09d}"
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in TENSORS:
        _write_tensors(partial / f"{name}.safetensors", getattr(state, name))
    sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
    facts = {name: getattr(state, name) for name in ("run", "step", "tokens", "position", "groups")}
    _write_json(partial / STATE, {**facts, "files": sizes})
    shutil.rmtree(path, ignore_errors=True)
    partial.replace(path)
    sync(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


@contextmanager
def run_folder(folder: Path, settings: Any) -> Iterator[Path]:
    """A folder for the checkpoints of a run, beside what it makes; gone once the run is finished.

    Named by a digest of the settings, so that a run with others does not go on from it.
    """
    run = folder / f"run-{config_digest(settings)[:12]}"
    yield run
    if is_first(os.environ):
        shutil.rmtree(run, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".partial")


def step_of(path: Path) -> int:
    """Step of a checkpoint, by its name."""
    return int(path.name.removeprefix("step-"))


def load_checkpoint(path: Path) -> TrainingState:
    """Read a checkpoint.

    Raises
    ------
    ArtifactError
        A file is missing or damaged.
    """
    facts = _read_json(path / STATE)
    for name, size in facts["files"].items():
        found = (path / name).stat().st_size if (path / name).exists() else 0
        if found != size:
            raise ArtifactError(f"{path / name}: {found} bytes, not {size}. Delete {path}, the one before it is used")
    tensors = {name: read_tensors(path / f"{name}.safetensors") for name in TENSORS}
    return TrainingState(
        run=facts["run"],
        step=facts["step"],
        tokens=facts["tokens"],
        position=Position(*facts["position"]),
        groups=facts["groups"],
        **tensors,
    )


def optimizer_state(
    optimizer: torch.optim.Optimizer, module: torch.nn.Module
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """State of an optimizer as tensors named `<parameter>/<what>`, and the options of its groups."""
    names = _parameter_names(optimizer, module)
    state = optimizer.state_dict()
    tensors = {f"{names[at]}/{key}": value for at, kept in state["state"].items() for key, value in kept.items()}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
    return tensors, groups


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    module: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    groups: Iterable[Mapping[str, Any]],
) -> None:
    """Bring an optimizer back to where `optimizer_state` found it.

    Raises
    ------
    ArtifactError
        The parameters are others than those of the state.
    """
    names = _parameter_names(optimizer, module)
    kept: dict[int, dict[str, Tensor]] = {}
    for label, tensor in tensors.items():
        name, key = label.rsplit("/", 1)
        if name not in names:
            raise ArtifactError(f"the optimizer's state has {label}, but the model trains no {name}. {AGAIN}")
        kept.setdefault(names.index(name), {})[key] = tensor
    empty = optimizer.state_dict()["param_groups"]
    filled = [{**group, **saved} for group, saved in zip(empty, groups, strict=True)]
    optimizer.load_state_dict({"state": kept, "param_groups": filled})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, in memory of their own.

    Raises
    ------
    ArtifactError
        The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # a mapped file may lie at any offset, and sums depend on how memory is aligned
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no such file. {AGAIN}") from None
    except SafetensorError as error:
        raise ArtifactError(f"{path}: not a whole safetensors file ({error}). {AGAIN}") from None


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _parameter_names(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> list[str]:
    names = {param: name for name, param in module.named_parameters()}
    return [names[param] for group in optimizer.param_groups for param in group["params"]]


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        plain[name] = value.clone() if place in seen else value  # safetensors refuses memory that is shared
        seen.add(place)
    partial = path.with_name(path.name + ".partial")
    save_file(plain, partial)
    sync(partial)
    partial.replace(path)


def _write_json(path: Path, values: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")
    sync(partial)
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: there is no such file. {AGAIN}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not JSON ({error}). {AGAIN}") from None
    if not isinstance(values, dict):
        raise ArtifactError(f"{path}: holds {type(values).__name__}, not a mapping. {AGAIN}")
    return values
