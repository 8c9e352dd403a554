"""What federating costs beyond training: time of a round, bytes on the wire, memory of a site; 3, 10 and 50 sites.

    python benchmarks/federation.py [--sites 3 10 50] [--rounds 4]

Sites have recordings of the demo's size (150 s, 19 electrodes, 160 Hz) and the demo's REVE; all of them live in one
process, one after the other, on one thread. Each number of sites is a process of its own, because memory is measured.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
KINDS = ("fedavg", "lora")
SFREQ, SECONDS, WINDOW = 160.0, 150.0, 4.0


def study(folder: Path, n_sites: int):
    """Rows, stores, split and model of so many sites with four people each, two of whom train."""
    from tests.conftest import make_recording

    from neuroloom.artifacts import write_artifact
    from neuroloom.config import RecordingRow, parse_config
    from neuroloom.evaluation.splits import split_subjects
    from neuroloom.models.reve import REVE
    from neuroloom.records import Events
    from neuroloom.training.checkpoint import write_card

    rng = np.random.default_rng(1)
    facts = {"study": "s", "task": "eyes", "modality": "eeg", "path": "x"}
    rows = [
        RecordingRow(**facts, site=f"{site:02d}", subject=f"{site:02d}{person}")
        for site in range(n_sites)
        for person in range(4)
    ]
    manifests = {}
    plain = make_recording(rng, n_channels=19, sfreq=SFREQ, seconds=SECONDS)
    for row in rows:
        n_windows = int(SECONDS / WINDOW)
        labels = [("open", "closed")[at] for at in rng.permutation(np.arange(n_windows) % 2)]
        events = Events(WINDOW * np.arange(n_windows), np.full(n_windows, WINDOW), labels)
        signal_CT = (plain.signal_CT * rng.uniform(0.9, 1.1, (19, 1))).astype(np.float32)
        recording = replace(plain, signal_CT=signal_CT, events=events)
        attrs = {**recording.attrs(), "recording": row.recording}
        write_artifact(
            folder / f"{row.recording}.zarr", "recording", arrays=recording.arrays(), attrs=attrs, window=1600
        )
        manifests[row.recording] = folder / f"{row.recording}.manifest.json"
    demo = parse_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    REVE.create(demo.pretrain.models["reve"], sfreq=SFREQ, seed=1).save(folder / "model")
    write_card(folder / "model", {"architecture": "reve", "salt": "s", "seen_subjects": []})
    return rows, manifests, split_subjects(rows, n_folds=4, fold=0), folder / "model"


def measure(n_sites: int, rounds: int) -> list[dict[str, float | str]]:
    """Both strategies with so many sites, in this process."""
    import pandas as pd

    from neuroloom.evaluation.config import TaskConfig
    from neuroloom.federated.client import forget
    from neuroloom.federated.comparing import Arm, _repeated
    from neuroloom.federated.config import FederateConfig, StrategyConfig
    from neuroloom.federated.tables import cost_table
    from neuroloom.training.processes import set_threads

    set_threads(1)
    task = TaskConfig(classes={"open": ("open",), "closed": ("closed",)}, window=WINDOW, max_windows=16)
    found: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, manifests, split, model = study(folder, n_sites)
        for kind in KINDS:
            forget()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            config = FederateConfig(
                strategies={kind: StrategyConfig(kind=kind, rank=2)},
                task="eyes",
                rounds=rounds,
                local_epochs=2,
                lr=3e-3,
            )
            arm = Arm(kind, config, task, tuple(rows), manifests, split, model, folder / kind, folder / "ledgers", 0, 1)
            outcome, _ = _repeated(arm, arm.run(0))
            table = pd.DataFrame([vars(row) for row in outcome.rounds])
            # the first round warms up what every process warms up once
            table = table[table["round"] > 1].assign(strategy=kind, kind=kind, network="reve", fold=0, seed=0)
            cost = cost_table(table).iloc[0]
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found.append(
                {
                    "sites": n_sites,
                    "strategy": kind,
                    "round_seconds": round(float(cost["round_seconds"]), 3),
                    "beyond_training_seconds": round(float(cost["round_seconds"] - cost["train_seconds"]), 3),
                    "overhead": round(float(cost["overhead"]), 4),
                    "bytes_per_site_and_round": int(cost["n_shared_bytes"]),
                    "mib_per_site": round((after - before) / 1024 / n_sites, 1) if kind == KINDS[0] else float("nan"),
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10, 50])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--here", action="store_true", help="measure in this process")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if given.here:
        print(json.dumps(measure(given.sites[0], given.rounds)))
        return
    rows = []
    for n_sites in given.sites:
        command = [sys.executable, __file__, "--here", "--sites", str(n_sites), "--rounds", str(given.rounds)]
        rows += json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    names = list(rows[0])
    print("\t".join(names))
    for row in rows:
        print("\t".join(str(row[name]) for name in names))
    full, low = (next(row for row in rows if row["strategy"] == kind) for kind in KINDS)
    print(f"LoRA sends {low['bytes_per_site_and_round'] / full['bytes_per_site_and_round']:.1%} of full FedAvg")


if __name__ == "__main__":
    main()
