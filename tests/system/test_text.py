"""Text of unknown origin is shown, never acted on."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from hcc_tace_data.system.text import visible

ANY = st.text(st.characters(codec=None), max_size=30)


@given(ANY)
def test_nothing_that_a_terminal_acts_on_is_left(text):
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    shown.encode("utf-8")
    assert visible(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=30))
def test_what_can_be_seen_stays(text):
    assert visible(text) == text


def test_bytes_of_a_file_name_that_is_not_utf_8():
    assert visible(b"a\xff\x1b.dcm".decode("utf-8", "surrogateescape")) == "a\\xff\\x1b.dcm"
