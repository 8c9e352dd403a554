"""A small valid file of each format, and a child to read damaged ones."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import nibabel
import numpy as np
import pytest

NAMES = ("Fp1", "Fp2", "C3", "C4")
SFREQ, N_TIMES = 100, 400


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass
class Reader:
    """The program `reader`; where it dies, it is started again for the next file."""

    process: subprocess.Popen[str] | None = None

    def ingest(self, path: Path) -> dict[str, str]:
        """Outcome and text for one file; BOLD is named so."""
        if self.process is None:
            words = [sys.executable, str(Path(__file__).with_name("reader.py"))]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            quiet = subprocess.DEVNULL
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True, env=environment
            )
        assert self.process.stdin
        assert self.process.stdout
        modality = "bold" if "bold" in path.name else "eeg"
        self.process.stdin.write(json.dumps({"path": str(path), "modality": modality}) + "\n")
        self.process.stdin.flush()
        if answer := self.process.stdout.readline():
            return json.loads(answer)
        died, self.process = self.process.wait(), None
        return {"outcome": f"died with {died}", "text": ""}


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    if reader.process and reader.process.stdin:
        reader.process.stdin.close()
        reader.process.wait()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small file of each format."""
    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(0)
    signal_CT = 20 * rng.standard_normal((len(NAMES), N_TIMES))
    write_edf(folder, signal_CT)
    (folder / "x.gdf").write_bytes(gdf(signal_CT))
    raw = mne.io.RawArray(1e-6 * signal_CT, mne.create_info(list(NAMES), SFREQ, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([1.0], [0.5], ["go"]))
    raw.set_montage("colin27_1020")
    raw.save(folder / "x_raw.fif", verbose="error")
    for name in ("x.set", "x.vhdr"):
        mne.export.export_raw(folder / name, raw, verbose="error")
    write_nifti(folder, rng)
    times = [f"{at / SFREQ},{signal_CT[0, at]:.4f},{signal_CT[1, at]:.4f},{at // 100}" for at in range(N_TIMES)]
    (folder / "x.csv").write_text("\n".join(["t,a,b,m", *times]) + "\n")
    names = [f"@ATTRIBUTE {name} NUMERIC" for name in "tabm"]
    (folder / "x.arff").write_text("\n".join(["@RELATION r", *names, "@DATA", *times]) + "\n")
    rows = ["\t".join(f"{value:.3f}" for value in row) for row in rng.standard_normal((12, 3))]
    (folder / "x_bold.tsv").write_text("\n".join(["p\tq\tr", *rows]) + "\n")
    (folder / "x_bold.json").write_text('{"RepetitionTime": 2.0, "SliceTiming": [0.0, 0.5, 1.0, 1.5]}')
    return folder


def write_edf(folder: Path, signal_CT: np.ndarray) -> None:
    import edfio

    facts = {"physical_dimension": "uV", "physical_range": (-200, 200)}
    edf = [edfio.EdfSignal(row, SFREQ, label=name, **facts) for name, row in zip(NAMES, signal_CT, strict=True)]
    edfio.Edf(edf, annotations=[edfio.EdfAnnotation(1.0, 0.5, "go")]).write(folder / "x.edf")
    bdf = [edfio.BdfSignal(row, SFREQ, label=name, **facts) for name, row in zip(NAMES, signal_CT, strict=True)]
    edfio.Bdf(bdf).write(folder / "x.bdf")


def gdf(signal_CT: np.ndarray) -> bytes:
    """GDF 1.25 of 32-bit numbers, one record a second, without events."""
    n_channels, n_times = signal_CT.shape
    n_records = n_times // SFREQ
    each = {
        "label": b"".join(name.encode().ljust(16) for name in NAMES),
        "transducer": b" " * 80 * n_channels,
        "unit": b"uV      " * n_channels,
        "physical": struct.pack(f"<{2 * n_channels}d", *[-200] * n_channels, *[200] * n_channels),
        "digital": struct.pack(f"<{2 * n_channels}q", *[-(2**30)] * n_channels, *[2**30] * n_channels),
        "filter": b" " * 80 * n_channels,
        "samples": struct.pack(f"<{n_channels}i", *[SFREQ] * n_channels),
        "type": struct.pack(f"<{n_channels}i", *[5] * n_channels),
        "reserved": b" " * 32 * n_channels,
    }
    fixed = b"GDF 1.25" + b"x y".ljust(80) + b"z".ljust(80) + b"2026010112000000"
    fixed += struct.pack("<q", 256 * (n_channels + 1)) + b"\0" * 44 + struct.pack("<q2II", n_records, 1, 1, n_channels)
    counts_CT = np.round(signal_CT / 200 * 2**30).astype("<i4")
    data = counts_CT.reshape(n_channels, n_records, SFREQ).swapaxes(0, 1).tobytes()
    return fixed + b"".join(each.values()) + data + b"\0" * 8  # a table of no events


def write_nifti(folder: Path, rng: np.random.Generator) -> None:
    bold_XYZV = rng.normal(1000, 10, (5, 6, 4, 8)).astype(np.float32)
    kinds = {"x_bold.nii": nibabel.Nifti1Image, "x_bold.nii.gz": nibabel.Nifti1Image, "y_bold.nii": nibabel.Nifti2Image}
    for name, kind in kinds.items():
        image = kind(bold_XYZV, np.diag([4.0, 4.0, 4.0, 1.0]))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((4, 4, 4, 2.0))
        image.to_filename(folder / name)
