"""Pickles under the names of other files: refused with a reason, and nothing that they name is called."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neuroloom.bold.reading import read_bold
from neuroloom.config import ConfigError, SourceConfig
from neuroloom.manifest import ArtifactError
from neuroloom.pickled import DAMAGED, describe
from neuroloom.published import read_published
from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.reading import read_raw
from neuroloom.study.connectome_files import NETWORKS, POSITIONS, read_connectomes
from neuroloom.study.neurobolt import read_pickled_table
from neuroloom.training.checkpoint import read_tensors

from .conftest import Trap

REFUSED = (UnusableRecording, ConfigError, ArtifactError)


def recording(path: Path) -> object:
    return read_raw(path, source=SourceConfig())


def bold(path: Path) -> object:
    return read_bold(path, source=SourceConfig(t_r=2.0))


def connectomes(path: Path) -> object:
    (path.parent / POSITIONS).write_text("1 2 3\n4 5 6\n")
    path.rename(path.with_name(NETWORKS))
    return read_connectomes(path.parent)


READERS = [
    *((recording, f"x{suffix}") for suffix in (".fif", ".edf", ".set", ".vhdr", ".mat", ".npy", ".npz", ".pt", ".pkl")),
    *((recording, f"x{suffix}") for suffix in (".csv", ".arff", ".cnt", ".raw", ".con", ".snirf", ".fif.gz")),
    *((bold, f"x_bold{suffix}") for suffix in (".nii", ".nii.gz", ".tsv", ".1D", ".npy", ".mat")),
    *((read_published, f"x{suffix}") for suffix in (".pt", ".pth", ".bin", ".safetensors")),
    (read_tensors, "x.safetensors"),
    (read_pickled_table, "x.pkl"),
    (connectomes, "x.mat"),
]


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(("read", "name"), READERS)
def test_a_pickle_under_another_name_is_refused_unread(
    tmp_path: Path, read: Callable[[Path], object], name: str, protocol: int
) -> None:
    path, sprung = tmp_path / name, tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol=protocol))
    with pytest.raises(REFUSED, match=path.stem if read is not connectomes else NETWORKS):
        read(path)
    assert not sprung.exists()


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))  # noqa: S301
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("place", ["beside", "among"])
def test_a_trap_in_a_checkpoint_is_not_sprung(tmp_path: Path, place: str) -> None:
    """Beside the state of a model it is left alone, as an optimizer's is; among its tensors it is refused."""
    path, trap = tmp_path / "x.pt", Trap(tmp_path / "sprung")
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    torch.save({"model": state, "args": trap} if place == "beside" else {"model": {**state, "c": trap}}, path)
    if place == "beside":
        assert all(torch.equal(value, state[name]) for name, value in read_published(path).items())
    else:
        with pytest.raises(ConfigError, match="holds more than named tensors"):
            read_published(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_tensors_of_a_checkpoint_are_those_that_torch_wrote(tmp_path: Path, dtype: str) -> None:
    values = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    module = torch.nn.Linear(3, 2)
    state = {"x": values, "part": values[1, :, 2:], "turned": values.permute(2, 0, 1), "none": values[:0]}
    torch.save({"state_dict": {**state, **module.state_dict(), "parameter": module.weight}}, tmp_path / "x.pt")
    read = read_published(tmp_path / "x.pt")
    for name, value in {**state, "weight": module.weight, "bias": module.bias}.items():
        assert torch.equal(read[name], value.detach())
        assert read[name].dtype == value.dtype
    assert torch.equal(read["parameter"], module.weight.detach())


def test_lists_of_a_pickle_that_refer_to_themselves_stay_small() -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(40):
        laughs = [laughs] * 10
    described = describe(pickle.dumps(laughs))
    assert len(described) == 10


@pytest.mark.parametrize("at", range(0, 200, 7))
def test_a_damaged_pickle_is_described_or_refused(at: int) -> None:
    data = pickle.dumps({"a": [1.5, "x", (2, None)], "b": Trap(Path("x")), "c": {3: b"y"}})
    for value in (0, 0x2E, 0x52, 0x62, 0x75, 0x81, 0x94, 0xFF):
        damaged = bytearray(data)
        damaged[at % len(data)] = value
        try:
            describe(bytes(damaged))
        except DAMAGED:
            continue
