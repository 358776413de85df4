"""The files around the code agree with it: workflows, citation, changelog."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import hcc_tace_data
from hcc_tace_data.facts.catalog import Catalog

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_workflows_test_all_versions_of_python_on_three_systems() -> None:
    jobs = _yaml(".github/workflows/tests.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert named <= set(matrix["python"])
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = {name for step in steps for name in re.findall(r"\bmake (\w+)", step)}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_only_the_publishing_job_gets_a_token() -> None:
    release = _yaml(".github/workflows/release.yml")
    assert release["permissions"] == {}
    asking = {name for name, job in release["jobs"].items() if "id-token" in job["permissions"]}
    assert asking == {"publish"}


@pytest.mark.skipif(os.name == "nt", reason="the linter of workflows is called by its POSIX path")
def test_linter_finds_a_planted_fault(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("zizmor")
    if not linter.exists():
        pytest.skip("zizmor is not installed")
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    for name, content in (
        ("injection.yml", text.replace("make lint", "echo ${{ github.event.issue.title }}")),
        ("schema.yml", text.replace("runs-on: ubuntu-latest", "runs-somewhere: ubuntu-latest")),
    ):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        assert content != text
        done = subprocess.run([linter, "--offline", "--quiet", path], capture_output=True, timeout=60)
        assert done.returncode != 0, name


def test_citation_agrees_with_the_catalogue_and_the_version() -> None:
    citation = _yaml("CITATION.cff")
    assert citation["version"] == hcc_tace_data.__version__ == PROJECT["version"]
    assert citation["authors"] == [{"name": PROJECT["authors"][0]["name"]}]
    assert citation["license"] == PROJECT["license"]
    known = {one["key"]: one for one in _yaml("catalog.yaml")["citations"]}
    for key, reference in zip(("data", "paper"), citation["references"], strict=True):
        assert reference["doi"] == known[key]["doi"]
        assert reference["year"] == known[key]["year"]
        assert reference["title"] in known[key]["text"]
    assert Catalog.load().identity.doi in PROJECT["urls"]["Collection"]


def test_changelog_begins_with_what_is_not_released_and_knows_the_version() -> None:
    heads = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert heads[1] == hcc_tace_data.__version__
    parts = re.findall(r"^### (\w+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(parts) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Moved"}


def test_modules_that_the_changelog_points_to_exist() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Moved")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`(hcc_tace_data[\w.]*)`", row)}
    assert len(names) > 10
    for name in sorted(names):
        path = _path(name)
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def _path(name: str) -> Path:
    parts = name.split(".")
    return ROOT.joinpath(*(parts[1:] if parts[1] in ("loaders", "validators") else parts))
