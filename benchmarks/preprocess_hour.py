"""One hour of 64-channel EEG: ingest + preprocess against the bare MNE calls they are made of.

    python benchmarks/preprocess_hour.py [--hours 1] [--repeats 3]

The bare calls end with the cleaned signal in memory; ours also checks, hashes the source, writes two verified stores
and computes the QC row. Ocular components are left out on both sides. Imports are done before the clock starts. Each
variant runs in a process of its own, in turn.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from measure import cost, in_own_process, keep

N_CHANNELS, SFREQ, BADS = 64, 256, ("AF7", "Oz", "C3")
BAND, NEW_SFREQ, LINE = (0.5, 70.0), 200.0, 50.0


def make_edf(path: Path, hours: float) -> None:
    import edfio
    import mne

    rng = np.random.default_rng(0)
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    times = np.arange(int(hours * 3600 * SFREQ)) / SFREQ
    signals = []
    for name in names:
        data = (
            15 * rng.standard_normal(len(times))
            + 20 * np.sin(2 * np.pi * 10 * times)
            + 5 * np.sin(2 * np.pi * LINE * times)
        )
        data *= {BADS[0]: 0.0, BADS[1]: 1e-4, BADS[2]: 15.0}.get(name, 1.0)
        signals.append(edfio.EdfSignal(data, SFREQ, label=name, physical_dimension="uV", physical_range=(-3000, 3000)))
    edfio.Edf(signals).write(path)


def bare_mne(path: Path) -> None:
    import mne

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    raw.set_montage("biosemi64", verbose="error")
    raw.info["bads"] = list(BADS)
    raw.notch_filter(LINE, verbose="error")
    raw.filter(*BAND, verbose="error")
    raw.interpolate_bads(verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    raw.resample(NEW_SFREQ, verbose="error")


def ours(path: Path, *, ocular: str = "none") -> None:
    from neuroloom.artifacts import open_artifact, write_artifact
    from neuroloom.config import IngestConfig, MeegConfig, SourceConfig
    from neuroloom.provenance import file_digest
    from neuroloom.records import Recording
    from neuroloom.signals.ingest import to_recording
    from neuroloom.signals.preprocess import preprocess_meeg
    from neuroloom.signals.reading import read_raw, source_files

    with tempfile.TemporaryDirectory() as folder:
        source = SourceConfig(montage="biosemi64", line_freq=50)
        recording, _ = to_recording(read_raw(path, source=source), path=path, source=source, config=IngestConfig())
        attrs = {**recording.attrs(), "sha256": file_digest(*source_files(path))}
        write_artifact(Path(folder, "a.zarr"), "recording", arrays=recording.arrays(), attrs=attrs, window=10 * SFREQ)
        recording = Recording.from_artifact(open_artifact(Path(folder, "a.zarr")))
        steps = {"ocular": ocular, "muscle": ocular, "uncorrelated": None}
        config = MeegConfig(l_freq=BAND[0], h_freq=BAND[1], sfreq=NEW_SFREQ, **steps)
        rng = np.random.default_rng(0)
        clean, qc = preprocess_meeg(recording=recording, config=config, window=10.0, file=str(path), rng=rng)
        if set(qc.bads) != set(BADS):
            raise SystemExit(f"other bad channels than planted: {qc.bads}")
        write_artifact(Path(folder, "b.zarr"), "recording", arrays=clean.arrays(), attrs=clean.attrs(), window=2000)


def warm_up() -> None:
    """Import what either variant uses, on a recording of some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "short.edf")
        make_edf(path, 30 / 3600)
        bare_mne(path)
        ours(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variant", choices=["mne", "ours"])
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.variant:
        warm_up()
        work = {"mne": bare_mne, "ours": ours}[given.variant]
        print(json.dumps(cost(lambda: work(given.file))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hour.edf")
        make_edf(path, given.hours)
        rows = []
        for repeat in range(given.repeats):
            found = {name: in_own_process(__file__, "--variant", name, "--file", str(path)) for name in ("mne", "ours")}
            ratios = {f"{key}_ratio": found["ours"][key] / found["mne"][key] for key in found["mne"]}
            rows += [{"repeat": repeat, "variant": name, **values} for name, values in found.items()]
            rows[-1] |= ratios
    keep(rows, "preprocess_hour")


if __name__ == "__main__":
    main()
