"""The phase vocabulary is the only list of the contrast phases."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.phases.names import DYNAMIC, KNOWN, PHASES, ROUTINE, phase_records

ROOT = Path(__file__).resolve().parents[2]

#: Modules that may name every phase: the rules that recognise each, and figures that only the twin has.
RECOGNISERS = {
    "hcc_tace_data/facts/phases.py": "the vocabulary itself",
    "hcc_tace_data/phases/headers.py": "seconds between two phases",
    "hcc_tace_data/phases/published.py": "words of published tables",
    "hcc_tace_data/phases/table.py": "words of series descriptions",
    "hcc_tace_data/phantom/patient.py": "seconds to the twin's reconstructions",
}


def _lists_of_phases(source: str) -> list[int]:
    """Return the lines of literals that hold every phase, as elements or in them, as keys or as values."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            inside = {
                word
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                for word in part.value.replace(",", " ").split()
            }
            if set(KNOWN) <= inside:
                found.append(node.lineno)
    return found


def test_only_the_rules_that_recognise_phases_list_them() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in ("hcc_tace_data", "loaders", "validators")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := _lists_of_phases(path.read_text(encoding="utf-8")))
    }
    assert set(found) == set(RECOGNISERS), found


def test_no_page_or_style_of_the_report_names_the_phases() -> None:
    report = ROOT / "hcc_tace_data" / "report"
    named = [
        path.name
        for path in sorted(report.rglob("*"))
        if path.suffix in {".css", ".js", ".html", ".j2"}
        and set(KNOWN) & set(path.read_text(encoding="utf-8").replace("-", " ").replace('"', " ").split())
    ]
    assert not named


@pytest.mark.parametrize(
    "source",
    [
        "X = ('pre_contrast', 'arterial', 'portal_venous', 'delayed')",
        "X = {'delayed': 1, 'pre_contrast': 2, 'portal_venous': 3, 'arterial': 4, 'unknown': 5}",
        "def f():\n    return [('arterial', 1), ('delayed', 1), ('pre_contrast', 2), ('portal_venous', 3)]",
        "X = ['pre_contrast, arterial', 'portal_venous', 'delayed']",
    ],
)
def test_a_list_of_phases_is_found(source: str) -> None:
    assert _lists_of_phases(source)


def test_vocabulary_follows_the_catalogue() -> None:
    records = load_catalog().phases
    assert tuple(record.key for record in records) == KNOWN == PHASES[:-1]
    assert PHASES[-1] == "unknown"
    assert list(phase_records()) == list(PHASES)
    assert ROUTINE == ("pre_contrast", "arterial", "portal_venous")
    assert DYNAMIC == ("arterial", "portal_venous", "delayed")


@pytest.mark.parametrize("field", ["key", "name", "short", "heading", "colours"])
def test_phases_are_told_apart_by_each_of_their_names(field: str) -> None:
    values = [getattr(record, field) for record in phase_records().values()]
    assert len(set(map(str, values))) == len(values)
