import importlib.metadata
from pathlib import Path

import pytest

from neuroloom import torchaudio_cpu


def test_braindecode_can_be_imported_in_this_environment() -> None:
    assert torchaudio_cpu.importable("braindecode.models")


def test_libraries_are_moved_not_deleted(tmp_path: Path) -> None:
    for name in ("_torchaudio.abi3.so", "libtorchaudio.abi3.so", "__init__.py"):
        (tmp_path / name).touch()
    moved = torchaudio_cpu.set_libraries_aside(tmp_path)
    assert [path.name for path in moved] == ["_torchaudio.abi3.so", "libtorchaudio.abi3.so"]
    assert all(path.parent.name == torchaudio_cpu.ASIDE and path.exists() for path in moved)
    assert (tmp_path / "__init__.py").exists()


def test_a_working_torchaudio_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchaudio_cpu, "importable", lambda _: True)
    monkeypatch.setattr(torchaudio_cpu, "set_libraries_aside", lambda _: pytest.fail("nothing is to be moved"))
    torchaudio_cpu.main()


def test_an_environment_that_stays_broken_says_which_versions_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr(torchaudio_cpu, "importable", lambda _: False)
    with pytest.raises(SystemExit, match=f"torchaudio {importlib.metadata.version('torchaudio')}"):
        torchaudio_cpu.main()
