"""The file of values that can be made again: whatever happens to it, no value is wrong."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hcc_tace_data.system import kept as module
from hcc_tace_data.system.caches import clear_caches, find_caches
from hcc_tace_data.system.kept import KeptFile

VALUES = {"a": {"name": "é\udc80", "numbers": [0.1, 1e-300, -3]}, "b": None, "c": [[], {}]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "derived.sqlite"


@pytest.fixture
def filled(place: Path) -> KeptFile:
    file = KeptFile([place])
    file.put("kind", VALUES)
    return file


def test_values_come_back_as_they_were(filled: KeptFile, place: Path) -> None:
    assert KeptFile([place]).get("kind", [*VALUES, "none"]) == VALUES
    assert filled.get("other kind", VALUES) == {}
    filled.put("kind", {"a": 1})
    assert filled.get("kind", ["a", "b"]) == {"a": 1, "b": None}


def test_nothing_is_opened_before_something_is_kept(place: Path) -> None:
    assert KeptFile([place]).get("kind", ["a"]) == {}
    assert not place.exists()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.write_bytes(b"no database at all" * 100), id="text"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:1500]), id="cut short"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:100] + os.urandom(path.stat().st_size - 100)), id="noise"
        ),
        pytest.param(lambda path: _execute(path, "PRAGMA user_version = 99"), id="another version"),
        pytest.param(lambda path: _execute(path, "DROP TABLE kept"), id="no table"),
        pytest.param(
            lambda path: _execute(
                path,
                "DROP TABLE kept",
                "CREATE VIEW kept AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                "SELECT i AS number, '' AS kind, '' AS key, x'' AS digest, 0 AS bytes, x'' AS value FROM n",
            ),
            id="a view without end",
        ),
        pytest.param(
            lambda path: _execute(
                path, "CREATE TRIGGER again AFTER INSERT ON kept BEGIN DELETE FROM kept WHERE key = 'a'; END"
            ),
            id="a trigger",
        ),
    ],
)
def test_a_damaged_file_is_begun_anew(filled, place, harm, caplog) -> None:
    harm(place)
    with caplog.at_level(logging.WARNING):
        assert filled.get("kind", VALUES) == {}
    assert len(caplog.records) <= 1
    filled.put("kind", {"a": 2})
    filled.put("kind", {"b": 3})
    assert filled.get("kind", VALUES) == {"a": 2, "b": 3}


def _execute(path: Path, *orders: str) -> None:
    base = sqlite3.connect(path)
    for order in orders:
        base.execute(order)
    base.commit()
    base.close()


def test_a_value_under_the_key_of_another_is_not_given(filled, place, caplog) -> None:
    _execute(
        place,
        "UPDATE kept SET value = (SELECT value FROM kept WHERE key = 'c'), "
        "digest = (SELECT digest FROM kept WHERE key = 'c') WHERE key = 'a'",
    )
    assert filled.get("kind", VALUES) == {"b": None, "c": [[], {}]}
    assert "1 entry damaged" in caplog.text


def test_every_flipped_byte_of_a_value_is_noticed(filled, place) -> None:
    base = sqlite3.connect(place)
    value = base.execute("SELECT value FROM kept WHERE key = 'a'").fetchone()[0]
    for at in range(len(value)):
        flipped = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        base.execute("UPDATE kept SET value = ? WHERE key = 'a'", (flipped,))
        base.commit()
        assert "a" not in filled.get("kind", ["a"])
    base.close()


def test_a_small_value_that_unpacks_to_much_is_not_given(filled, monkeypatch) -> None:
    filled.put("kind", {"long": "x" * 100_000})
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    assert filled.get("kind", ["long", "c"]) == {"c": [[], {}]}


def test_a_locked_file_is_passed_by(filled, place, monkeypatch, caplog) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.INFO):
        assert filled.get("kind", VALUES) == {}
        filled.put("kind", {"a": 1})
    assert len(caplog.records) == 1
    other.execute("ROLLBACK")
    other.close()
    assert KeptFile([place]).get("kind", VALUES) == VALUES


def test_a_pipe_or_a_folder_in_its_place_blocks_nothing(place, caplog) -> None:
    os.mkfifo(place)
    file = KeptFile([place])
    assert file.get("kind", ["a"]) == {}
    file.put("kind", {"a": 1})
    place.unlink()
    place.mkdir()
    assert KeptFile([place]).get("kind", ["a"]) == {}
    KeptFile([place]).put("kind", {"a": 1})


def test_a_linked_copy_gets_a_file_of_its_own(filled, place, tmp_path) -> None:
    """Two names of one file would have two journals, and each could undo what the other wrote."""
    copy = tmp_path / "copy.sqlite"
    os.link(place, copy)
    KeptFile([copy]).put("kind", {"a": 2})
    assert not copy.exists()
    KeptFile([copy]).put("kind", {"a": 2})
    assert KeptFile([copy]).get("kind", ["a", "b"]) == {"a": 2}
    assert filled.get("kind", VALUES) == VALUES


def test_where_the_first_place_cannot_be_written_the_second_is_used(tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    places = [tmp_path / "file" / "derived.sqlite", tmp_path / "cache" / "derived.sqlite"]
    file = KeptFile(places)
    file.put("kind", {"a": 1})
    file.put("quotes headers", {"a": 1}, first_only=True)
    assert KeptFile(places).get("kind", ["a"]) == {"a": 1}
    assert KeptFile(places).get("quotes headers", ["a"]) == {}, "only beside the collection's own files, or nowhere"
    assert places[1].is_file()


def test_the_oldest_entries_go_first(place) -> None:
    file = KeptFile([place], limit=200_000)
    for number in range(100):
        file.put("kind", {str(number): os.urandom(3000).hex()})
    assert place.stat().st_size < 400_000
    held = sorted(map(int, file.get("kind", map(str, range(100)))))
    assert held == list(range(held[0], 100))
    assert 10 < len(held) < 60


def test_many_processes_write_and_read_at_once(place) -> None:
    script = (
        "import sys; from pathlib import Path; from hcc_tace_data.system.kept import KeptFile\n"
        "own, file = sys.argv[2], KeptFile([Path(sys.argv[1])])\n"
        "for n in range(40):\n"
        "    file.put('kind', {f'{own}-{n}': [own, n], 'shared': 7})\n"
        "    assert file.get('kind', [f'{own}-{n}', 'shared']) == {f'{own}-{n}': [own, n], 'shared': 7}, n\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(place), str(n)]) for n in range(4)]
    assert [one.wait(60) for one in running] == [0] * 4
    keys = [f"{own}-{n}" for own in range(4) for n in range(40)]
    assert set(KeptFile([place]).get("kind", keys)) == set(keys)


def test_a_process_killed_while_it_writes_leaves_what_was_there(filled, place) -> None:
    script = (
        "import os, signal, sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "base.execute('PRAGMA cache_size = 1'); base.execute('PRAGMA synchronous = OFF')\n"
        "base.execute('BEGIN IMMEDIATE'); base.execute('UPDATE kept SET value = zeroblob(50)')\n"
        "for n in range(300):\n"
        "    base.execute('INSERT INTO kept (kind, key, digest, bytes, value) VALUES (?, ?, ?, ?, ?)',\n"
        "                 ('kind', f'half {n}', b'', 1, os.urandom(5000)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(place)], check=False).returncode == -9
    assert place.with_name(place.name + "-journal").is_file(), "the write was under way"
    assert KeptFile([place]).get("kind", VALUES) == VALUES
    filled.put("kind", {"more": 1})
    assert filled.get("kind", [*VALUES, "more", "half 1"]) == VALUES | {"more": 1}


def test_cache_clear_removes_it(tmp_path) -> None:
    own = tmp_path / ".hcc-tace"
    own.mkdir()
    KeptFile([own / "derived.sqlite"]).put("kind", VALUES)
    (own / "derived.sqlite-journal").touch()
    (own / "derived.csv").touch()
    found = [one for one in find_caches(tmp_path) if one.path.parent == own]
    assert {one.path.name for one in found} == {"derived.sqlite", "derived.sqlite-journal"}
    clear_caches(found)
    assert [path.name for path in own.iterdir()] == ["derived.csv"]
