"""Tiny BIDS datasets of EEG, with and without BOLD, as somebody might bring them."""

import json
from pathlib import Path

import edfio
import nibabel
import numpy as np

NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def write_edf(path: Path, *, seconds: int = 30) -> None:
    rng = np.random.default_rng(0)
    data = 20 * rng.standard_normal((len(NAMES), 100 * seconds))
    signals = [edfio.EdfSignal(row, 100, label=name, physical_dimension="uV", physical_range=(-200, 200))
               for name, row in zip(NAMES, data, strict=True)]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals).write(path)
    sidecar = {"SamplingFrequency": 100, "PowerLineFrequency": 50, "RecordingDuration": seconds}
    path.with_suffix(".json").write_text(json.dumps(sidecar))


def make_bids(root: Path, *, people: int = 4, tasks: tuple[str, ...] = ("rest", "count")) -> Path:
    """EEG of some people in some tasks; half of them of group a."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "tiny", "BIDSVersion": "1.9.0"}))
    lines = [f"sub-{at:02d}\t{20 + at}\t{'a' if at % 2 else 'b'}\n" for at in range(people)]
    (root / "participants.tsv").write_text("participant_id\tage\tgroup\n" + "".join(lines))
    for at in range(people):
        for task in tasks:
            write_edf(root / f"sub-{at:02d}" / "eeg" / f"sub-{at:02d}_task-{task}_eeg.edf")
    return root


def add_bold(root: Path, people: int, *, space: str = "_space-MNI152NLin2009cAsym") -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4, 5), np.float32), np.diag([4, 4, 4, 1]))
    for at in range(people):
        folder = root / f"sub-{at:02d}" / "func"
        folder.mkdir()
        nibabel.save(image, folder / f"sub-{at:02d}_task-rest{space}_bold.nii.gz")
        (folder / f"sub-{at:02d}_task-rest{space}_bold.json").write_text(json.dumps({"RepetitionTime": 2.1}))
