"""Downloads that break off: half a file is never taken for a whole one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from neuroloom.schema import ConfigError
from neuroloom.study.bids import index_bids
from neuroloom.study.public import EEGBCI_FOLDER, eegbci, openneuro

BYTES = bytes(range(256)) * 400
NAME = "sub-01_task-rest_eeg.edf"
FETCH = """
import os, signal, sys
from pathlib import Path
import openneuro
from neuroloom.study import public

def download(*, dataset, target_dir, include):
    (Path(target_dir) / "dataset_description.json").write_text("{}")
    (Path(target_dir) / "sub-01/eeg").mkdir(parents=True)
    (Path(target_dir) / "sub-01/eeg" / "sub-01_task-rest_eeg.edf").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)

openneuro.download = download
public.openneuro(dataset_id="ds1", folder=Path(sys.argv[1]))
"""


class Half(BaseHTTPRequestHandler):
    """Promises a file, and closes the connection in its middle."""

    sent = len(BYTES) // 2

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BYTES)))
        self.end_headers()
        self.wfile.write(BYTES[: self.sent])

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


class Other(Half):
    """Sends a whole file, which is not the one that was asked for."""

    sent = len(BYTES)


@pytest.fixture(params=[Half, Other])
def server(request: pytest.FixtureRequest) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), request.param) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_broken_connection_leaves_no_file(
    server: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mne.datasets.eegbci import load_data

    url = f"http://127.0.0.1:{server.server_port}/files/eegmmidb/1.0.0/"
    monkeypatch.setattr("mne.datasets.eegbci.load_data", partial(load_data, base_url=url))
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(ConfigError, match=r"eegbci: cannot be fetched .* Looked for .*S001R01.edf. Place these files"):
        eegbci(folder=tmp_path, subjects=[1], runs=[1])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_half_a_file_that_lies_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / EEGBCI_FOLDER / "S001" / "S001R01.edf"
    file.parent.mkdir(parents=True)
    file.write_bytes(BYTES)
    with pytest.raises(
        ConfigError, match=r"S001R01.edf: not the published bytes, as after an interrupted copy. Delete"
    ):
        eegbci(folder=tmp_path, subjects=[1], runs=[1])


def test_a_dataset_whose_download_was_killed_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.run([sys.executable, "-c", FETCH, str(tmp_path)], check=False)
    assert killed.returncode == -9
    file = tmp_path / "ds1/sub-01/eeg" / NAME
    assert file.read_bytes() == b"half"
    with pytest.raises(ConfigError, match=r"ds1: its download was interrupted, so files may be half. Fetch it again"):
        index_bids(tmp_path / "ds1", study="ds1")

    def fail(**_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("openneuro.download", fail)
    with pytest.raises(ConfigError, match="no network"):
        openneuro(dataset_id="ds1", folder=tmp_path)
    with pytest.raises(ConfigError, match="interrupted"):
        index_bids(tmp_path / "ds1", study="ds1")
    monkeypatch.setattr("openneuro.download", lambda **_: file.write_bytes(b"whole"))
    (row,) = openneuro(dataset_id="ds1", folder=tmp_path)
    assert row.path == f"ds1/sub-01/eeg/{NAME}"
    assert [one.subject for one in index_bids(tmp_path / "ds1", study="ds1")] == ["01"]


def test_a_whole_dataset_stays_usable_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ds1/sub-01/eeg"
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"whole")
    (tmp_path / "ds1/dataset_description.json").write_text("{}")

    def fail(**_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("openneuro.download", fail)
    with pytest.raises(ConfigError, match="no network"):
        openneuro(dataset_id="ds1", folder=tmp_path)
    assert len(index_bids(tmp_path / "ds1", study="ds1")) == 1
