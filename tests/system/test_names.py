"""A text from a file becomes one harmless path component, and different texts stay different."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hcc_tace_data.system.names import is_safe_name, safe_name

HOSTILE = [
    "", ".", "..", "../..", "/etc/passwd", "C:\\Windows", "\\\\host\\share", "a/b", "a\\b", "CON", "con.txt", "NUL",
    "aux.nii.gz", "COM1", "LPT9.x", "a\0b", "\0", "x" * 5000, "é" * 300, "a\u202eb", "\ud800", "name.", "name ", " ",
    "-rf", "~", "~root", "$HOME", "a:b", "*", "?", "a\nb", "\x1b[2J", ".hidden", "HCC_001-0123456789abcdef",
]  # fmt: skip

TEXTS = st.one_of(
    st.text(),
    st.text(alphabet=st.sampled_from("./\\-_ aA1:\0~")),
    st.lists(st.sampled_from(["..", "CON", "nul", "a", "HCC_001", "-", "."]), max_size=6).map("/".join),
    st.sampled_from(HOSTILE),
)


@given(text=TEXTS)
@example(text="..")
def test_the_result_is_one_component_on_every_system(text: str) -> None:
    name = safe_name(text)
    for kind in (PurePosixPath, PureWindowsPath):
        place = kind("root") / f"{name}.nii.gz"
        assert place.parent == kind("root")
        assert (kind("root") / name).parent == kind("root")
    assert is_safe_name(name)
    assert len(os.fsencode(f".{name}.0123456789ab.part.nii.gz")) < 255
    assert name.isascii()
    assert name.isprintable()
    assert not name.startswith((".", "-"))


@given(texts=st.sets(TEXTS, min_size=2, max_size=30))
def test_different_texts_have_different_names(texts: set[str]) -> None:
    texts |= {safe_name(text) for text in texts}  # those that look like the result for another one included
    assert len({safe_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_can_be_written(tmp_path: Path, text: str) -> None:
    (tmp_path / safe_name(text)).write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [safe_name(text)]


@pytest.mark.parametrize("text", ["HCC_001", "1.3.6.1.4.1.14519.5.2.1", "reader_1", "a-b.c"])
def test_plain_names_are_kept(text: str) -> None:
    assert safe_name(text) == text
