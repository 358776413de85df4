"""The lock of a folder: one holder, named, and free again when its holder dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hcc_tace_data.errors import FolderLockedError
from hcc_tace_data.system.lock import lock_folder

HOLD = """
import sys, time
from pathlib import Path
from hcc_tace_data.system.lock import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def _hold(root: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.stdout.close()
    return holder


def test_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    holder = _hold(tmp_path)
    with pytest.raises(FolderLockedError, match=f"process {holder.pid} on"), lock_folder(tmp_path, wait=False):
        pass
    notices: list[str] = []

    def end_it(_: float) -> None:
        if holder.poll() is None:
            os.kill(holder.pid, signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
            holder.wait()

    with lock_folder(tmp_path, notice=notices.append, sleep=end_it):
        note = json.loads((tmp_path / ".hcc-tace/lock-holder.json").read_text())
        assert note["pid"] == os.getpid()
    assert len(notices) == 1
    assert f"process {holder.pid} on" in notices[0]


def test_two_holders_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with lock_folder(tmp_path):
        with pytest.raises(FolderLockedError, match=f"process {os.getpid()} on"), lock_folder(tmp_path, wait=False):
            pass
        with pytest.raises(FolderLockedError), lock_folder(tmp_path, wait=False):
            pass
    with lock_folder(tmp_path, wait=False):
        pass


def test_a_folder_without_locks_is_an_error_and_not_a_lock_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="POSIX")

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="not implemented"), lock_folder(tmp_path, wait=False):
        pass
    monkeypatch.undo()
    with lock_folder(tmp_path, wait=False):
        pass


def test_what_the_lock_file_holds_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / ".hcc-tace").mkdir()
    (tmp_path / ".hcc-tace/lock").write_bytes(b"\xff left by another version")
    (tmp_path / ".hcc-tace/lock-holder.json").write_bytes(b"\xff")
    with lock_folder(tmp_path, wait=False):
        pass
