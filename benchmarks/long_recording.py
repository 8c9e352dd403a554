"""A long recording from EDF to cleaned store: seconds, times real time, and peak memory, which should not grow.

    python benchmarks/long_recording.py [--hours 1 6 24]

Each length runs in a process of its own; the EDF of 64 channels at 256 Hz is made by repeating some minutes of it.
"""

import argparse
import json
import tempfile
from pathlib import Path

from measure import cost, in_own_process, keep
from preprocess_hour import make_edf, ours, warm_up

PART_S = 600
N_RECORDS = slice(236, 244)  # of an EDF header


def repeat_edf(part: Path, path: Path, times: int) -> None:
    """Write the data records of one EDF file `times` times after each other."""
    content = part.read_bytes()
    header_bytes, records = int(content[184:192]), int(content[N_RECORDS])
    header = bytearray(content[:header_bytes])
    header[N_RECORDS] = f"{records * times:<8d}".encode()
    with path.open("wb") as stream:
        stream.write(header)
        for _ in range(times):
            stream.write(content[header_bytes:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, nargs="+", default=[1, 6, 24])
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.file:
        warm_up()
        print(json.dumps(cost(lambda: ours(given.file, ocular="ica"))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        part, path = Path(folder, "part.edf"), Path(folder, "long.edf")
        make_edf(part, PART_S / 3600)
        for hours in given.hours:
            repeat_edf(part, path, round(hours * 3600 / PART_S))
            found = in_own_process(__file__, "--file", str(path))
            rows.append({"hours": hours, **found, "times_real_time": hours * 3600 / found["seconds"]})
            print(rows[-1], flush=True)
    keep(rows, "long_recording")


if __name__ == "__main__":
    main()
