"""CITATION.cff: what version 1.2.0 of the format asks for, and modules that are there."""

import re

import yaml

from .conftest import ROOT

NEEDED = {"type", "title", "authors"}
MAY = {"year", "journal", "volume", "issue", "start", "doi", "identifiers", "notes", "url", "collection-title"}
TYPES = {"article", "conference-paper", "software"}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_it_is_a_citation_file() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "version"} <= set(CITATION)


def test_references_have_what_the_format_asks_for() -> None:
    for one in CITATION["references"]:
        assert set(one) >= NEEDED, one
        assert set(one) <= NEEDED | MAY, one
        assert one["type"] in TYPES
        assert all(
            set(author) in ({"family-names"}, {"family-names", "given-names"}, {"name"}) for author in one["authors"]
        )
        assert re.fullmatch(r"10\.\d{4,9}/\S+", one.get("doi", "10.1000/none"))
        for identifier in one.get("identifiers", ()):
            assert identifier["type"] == "other"
            assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", identifier["value"])


def test_modules_that_follow_a_source_are_there_and_name_it() -> None:
    for one in CITATION["references"]:
        for module in filter(None, one.get("notes", "").split(", ")):
            file = ROOT / "src/neuroloom" / module
            assert file.exists(), one
        number = next((identifier["value"] for identifier in one.get("identifiers", ())), None)
        if number:
            sources = (path.read_text() for path in (ROOT / "src/neuroloom").rglob("*.py"))
            assert any(number.removeprefix("arXiv:") in text for text in sources), one["title"]


def test_numbers_of_papers_in_the_readme_are_cited() -> None:
    told = set(re.findall(r"arxiv\.org/abs/([\d.]+)", (ROOT / "README.md").read_text()))
    known = {identifier["value"][6:] for one in CITATION["references"] for identifier in one.get("identifiers", ())}
    assert told <= known
