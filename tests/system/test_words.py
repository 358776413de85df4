"""Numbers with their nouns: one is singular, in every message of the package."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import hcc_tace_data
from hcc_tace_data.system.words import count, verb

ROOT = Path(hcc_tace_data.__file__).parents[1]


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [
        (1, "file", "1 file"), (0, "file", "0 files"), (2, "other study", "2 other studies"), (1, "series", "1 series"),
        (2, "process", "2 processes"), (1200, "byte", "1,200 bytes"), (2, "entry", "2 entries"),
    ],
)  # fmt: skip
def test_a_count_has_its_noun_in_number(number: int, noun: str, shown: str) -> None:
    assert count(number, noun) == shown


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("is", "are"), ("was", "were"), ("has", "have"), ("does", "do"), ("lies", "lie"), ("uses", "use")],
)
def test_a_verb_goes_with_its_number(singular: str, plural: str) -> None:
    assert [verb(number, singular) for number in (0, 1, 2)] == [plural, singular, plural]


def plurals_after_a_length(source: str) -> list[str]:
    """Return the f-strings that show ``len(...)`` or a sum with a noun in a fixed plural."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in pairwise(node.values):
            if not (isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant)):
                continue
            shown = ast.unparse(value.value)
            nouns = re.match(r" (?:[a-z-]+ ){0,2}?(?!series|is|was|has|does)[a-z]+s\b", str(text.value))
            before = re.match(r" (of|in|where|more|others?) ", str(text.value))
            if re.match(r"len\(|int\(.*\.sum\(\)\)", shown) and nouns and not before:
                found.append(f"{{{shown}}}{nouns[0]}")
            if "(s)" in str(text.value):
                found.append(f"{{{shown}}}{text.value}")
    return found


def test_the_sweep_sees_a_fixed_plural() -> None:
    assert plurals_after_a_length('f"{len(a)} files are lost"') == ["{len(a)} files"]
    assert plurals_after_a_length('f"{n} row(s) lost"') == ["{n} row(s) lost"]
    assert plurals_after_a_length("f\"{count(len(a), 'file')} lost, {len(b)} series\"") == []


#: Shown only where there are two at least.
_NEVER_ONE = {
    "{len(self.widths)} levels", "{len(self.model.widths)} levels", "{len(widths)} widths", "{len(blocks)} numbers",
    "{len(strides)} strides", "{len(data)} bytes", "{len(raw)} bytes", "{len(decoded)} bytes",
    "{len(os.fsencode(whole))} bytes", "{len(COLUMNS)} columns", "{len(columns)} columns",
    "{len(stages)} staging systems",
    "{len(part)} characters", "{len(text)} characters", "{len(patients)} patients", "{len(volumes)} CT volumes",
    "{len(volumes)} contrast phases", "{len(rows)} volumes", "{len(members)} parts", "{len(kinds)} sizes",
    "{len(rows)} files", "{len(rows)} times",
}  # fmt: skip


def test_no_message_says_one_files() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for package in ("hcc_tace_data", "loaders", "validators")
        for path in (ROOT / package).rglob("*.py")
        for text in plurals_after_a_length(path.read_text(encoding="utf-8"))
        if text not in _NEVER_ONE
    }
    assert found == set()


def test_no_page_says_one_files() -> None:
    found = [
        text[0]
        for page in (ROOT / "hcc_tace_data" / "report" / "templates").glob("*.j2")
        for text in re.finditer(
            r"\{\{[^{}]*\}\} (?:\w+ )?(?:files|patients|slices|errors|problems|events|minutes|threads|images)\b",
            page.read_text(encoding="utf-8"),
        )
    ]
    assert [text for text in found if "counted(" not in text] == []
