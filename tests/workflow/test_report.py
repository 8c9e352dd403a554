"""The report of a study that ran: one file that needs nothing from outside, and leads to what lies beside it."""

import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def report(smoke: Path) -> Path:
    return smoke / "results/smoke/report.html"


def test_it_needs_nothing_from_outside(report: Path) -> None:
    html = report.read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert [one for one in addresses if not one.startswith(("data:", "#", "tables/", "figures/"))] == []
    assert re.findall(r"@import|url\((?!data:)", html) == []
    assert len(html) < 15e6


def test_links_lead_to_files_of_the_study(report: Path) -> None:
    links = set(re.findall(r'href="((?:tables|figures)/[^"]*)"', report.read_text()))
    assert len(links) > 20
    assert [link for link in links if not (report.parent / link).exists()] == []


def test_every_table_has_the_record_of_its_job(report: Path) -> None:
    html = report.read_text()
    assert len(re.findall(r'<article class="file"', html)) > 20
    assert "no record says which job" not in html
    assert "changed since its job" not in html


def test_findings_stand_on_the_first_screen(report: Path) -> None:
    html = report.read_text()
    first = html.split('id="overview"')[1].split("</section>")[0]
    assert "Does a pretrained model beat the best baseline?" in first
    assert "Can BOLD of other people be told from EEG?" in first


def test_every_picture_has_words_for_those_who_do_not_see_it(report: Path) -> None:
    images = re.findall(r"<img [^>]*>", report.read_text())
    assert images
    words = [re.search(r'alt="([^"]+)"', image) for image in images]
    assert all(said and len(said[1]) > len("Quality figure of ") for said in words)
