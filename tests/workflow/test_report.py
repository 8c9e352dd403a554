"""The report in a real browser."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def report(smoke: Path) -> Path:
    return smoke / "results/smoke/report.html"


def test_it_needs_nothing_from_outside(report: Path) -> None:
    html = report.read_text()
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', html) + re.findall(r"@import|url\((?!data:)", html)
    assert outside == []
    assert len(html) < 15e6


@pytest.mark.parametrize("width", [1280, 390])
def test_it_opens_without_an_error_and_looks_like_a_page(report: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "report.png"
    run = browse(report, tmp_path, f"--screenshot={picture}", f"--window-size={width},1600")
    assert "CONSOLE" not in run.stderr
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (width, 1600)
    assert picture.stat().st_size > 50_000, "a blank page is smaller"


def test_tables_sort_when_a_header_is_clicked(report: Path, tmp_path: Path) -> None:
    """The page is given a script that clicks, so that what the browser then shows can be read."""
    html = report.read_text()
    click = "document.querySelectorAll('#runtime ~ .scroll th button')[2].click();"
    assert "</script>" in html
    page = tmp_path / "clicked.html"
    page.write_text(html.replace("</body>", f"<script>{click}</script></body>"))
    dom = browse(page, tmp_path, "--dump-dom").stdout
    table = re.search(r'<table aria-label="Run time[^>]*>.*?</table>', dom, re.DOTALL)
    assert table
    assert 'aria-sort="ascending"' in table[0]
    seconds = [
        re.findall(r'data-value="([^"]*)"', row)[2] for row in re.findall(r"<tr>(.*?)</tr>", table[0], re.DOTALL)[1:]
    ]
    assert seconds == sorted(seconds, key=float)
    assert len(seconds) > 3


def test_every_picture_has_words_for_those_who_do_not_see_it(report: Path) -> None:
    images = re.findall(r"<img [^>]*>", report.read_text())
    assert images
    words = [re.search(r'alt="([^"]+)"', image) for image in images]
    assert all(said and len(said[1]) > len("Quality figure of ") for said in words)
