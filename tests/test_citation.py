"""CITATION.cff names the software and both papers, as the README and pyproject.toml do."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
README = " ".join((ROOT / "README.md").read_text("utf-8").split())


def test_the_keys_that_the_format_requires_are_there() -> None:
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    for work in CITATION["references"]:
        assert {"type", "title", "authors"} <= work.keys()
        assert all({"family-names", "given-names"} == author.keys() for author in work["authors"])


def test_titles_addresses_years_and_authors_are_those_of_the_readme() -> None:
    assert README.startswith(f"# {CITATION['title']} ")
    assert re.findall(r"\[\*(.*?)\*\]", README) == [work["title"] for work in CITATION["references"]]
    for work in CITATION["references"]:
        *others, last = (author["family-names"] for author in work["authors"])
        assert f"{', '.join(others)} & {last}, [*{work['title']}*]({work['url']}), CVPR {work['year']}." in README
        assert work["identifiers"][0]["value"].removeprefix("arXiv:") == work["url"].rpartition("/")[2]


def test_version_and_licence_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert (CITATION["version"], CITATION["license"]) == (project["version"], project["license"])
