"""Seconds and memory of a dry run of the whole graph for studies of 100, 1,000 and 10,000 recordings.

    python benchmarks/dag_scale.py [--recordings 100 1000 10000]

Everything that the default config asks of a study of real files: tokens, models, evaluation, federation and synthesis.
People have EEG, MEG and BOLD, EEG and BOLD make a pair, and a site has 20 people, so that devices grow with the study.
The files are empty, because a dry run opens none. `parse` is what every start pays, also that of each job on a cluster:
the sheet, the config and the rules; `graph` is Snakemake's graph, and what is left is its start and the list it prints.
`growth` is the exponent of CPU seconds over recordings between one size and the next: 1 is linear.
"""

import argparse
import io
import itertools
import json
import math
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from measure import cost, in_own_process, keep

ROOT = Path(__file__).parents[1]
MODALITIES = (("eeg", "edf"), ("meg", "fif"), ("bold", "nii.gz"))
PEOPLE_OF_SITE = 20


def make_study(folder: Path, n_recordings: int) -> Path:
    """Write the sheet, empty files and the config of a study; the config's path."""
    lines = ["study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath"]
    for at in range(n_recordings):
        person, (modality, suffix) = at // len(MODALITIES), MODALITIES[at % len(MODALITIES)]
        path = f"{person:05d}_{modality}.{suffix}"
        (folder / path).touch()
        lines.append(f"scale\tsite{person // PEOPLE_OF_SITE}\t{person:05d}\tn/a\trest\tn/a\t{modality}\t{path}")
    (folder / "recordings.tsv").write_text("\n".join(lines) + "\n")
    config = folder / "scale.yaml"
    config.write_text(f"study: {{name: scale, recordings: {folder / 'recordings.tsv'}, root: {folder}}}\n")
    return config


def timed(owner: type, name: str, spent: dict[str, float], key: str) -> None:
    """Add the CPU seconds of a method to `spent`; of calls within calls, the outermost counts."""
    method: Callable[..., Any] = getattr(owner, name)
    depth = itertools.count()

    def call(*arguments: Any, **named: Any) -> Any:
        outermost, started = next(depth) == 0, time.process_time()
        try:
            return method(*arguments, **named)
        finally:
            if outermost:
                spent[key] = time.process_time() - started

    setattr(owner, name, call)


def dry_run(folder: Path, config: Path) -> dict[str, float]:
    """Seconds, memory and jobs of `snakemake --dry-run` in this process."""
    from snakemake.cli import main
    from snakemake.workflow import Workflow

    spent: dict[str, float] = {}
    timed(Workflow, "include", spent, "parse")
    timed(Workflow, "_build_dag", spent, "graph")
    words = ["--dry-run", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--cores", "1"]
    words += ["--workflow-profile", "none", "--configfile", str(config)]
    told = io.StringIO()

    def run() -> None:
        with redirect_stderr(told), redirect_stdout(told):
            try:
                main(words)
            except SystemExit as ended:
                spent["code"] = float(ended.code or 0)

    found = cost(run)
    jobs = re.search(r"^total\s+(\d+)", told.getvalue(), re.MULTILINE)
    if spent.pop("code", 0) or not jobs:
        raise SystemExit(f"the dry run failed: {told.getvalue()[-2000:]}")
    return {"jobs": int(jobs[1]), **found, **spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.folder:
        print(json.dumps(dry_run(given.folder, given.folder / "scale.yaml")))
        return
    rows: list[dict[str, Any]] = []
    for n_recordings in given.recordings:
        with tempfile.TemporaryDirectory() as name:
            make_study(Path(name), n_recordings)
            rows.append({"recordings": n_recordings, **in_own_process(__file__, "--folder", name)})
            print(rows[-1], flush=True)
    for before, row in itertools.pairwise(rows):
        steps = math.log(row["recordings"] / before["recordings"])
        row["growth"] = math.log(row["cpu_seconds"] / before["cpu_seconds"]) / steps
        row["graph_growth"] = math.log(row["graph"] / before["graph"]) / steps
    keep(rows, "dag_scale")


if __name__ == "__main__":
    main()
