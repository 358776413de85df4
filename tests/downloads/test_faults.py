"""What can go wrong while the collection is fetched, one test a fault; `make faults` prints them as a table.

After every fault the same is asked: is all that has a final name, byte for byte, what the source has; is all that the
ledger claims on disk; and, where the fault passes, is everything here in the end.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hcc_tace_data import download
from hcc_tace_data.cli.main import main
from hcc_tace_data.downloads import RetryPolicy
from hcc_tace_data.errors import DiskFullError, DownloadError, FolderLockedError, IncompleteDownloadError
from hcc_tace_data.integrity.ledger import ledger_path, read_ledger, read_series
from hcc_tace_data.system.lock import lock_folder

Check = Callable[..., int]
Outcome = Callable[..., None]
SURVIVED, DETECTED = "survived", "detected, rest fetched"
KILLS = int(os.environ.get("HCC_TACE_KILLS", "6"))


@pytest.fixture
def fetch(tmp_path: Path, phantom: Path, s3: Any, nbia: Any, quick: RetryPolicy) -> Callable[..., Any]:
    def run(source: str = "idc", **options: Any) -> Any:
        endpoint = s3.url if source == "idc" else None
        settings = {"retries": quick, "timeout_s": 5.0, **options}
        return download(tmp_path / "r", source=source, table=phantom / "series.csv", endpoint=endpoint, **settings)

    return run


def _series(rows: list[dict[str, str]], number: int = 1) -> str:
    return sorted(row["series_uid"] for row in rows if row["modality"] == "CT")[number]


def _first_object(rows: list[dict[str, str]], nth: Callable[[int], bool], fault: Any) -> Callable[[str, int], Any]:
    """Return a rule that spoils requests for the objects of one series."""
    uid = _series(rows)
    return lambda key, n: fault if uid in key and key.endswith(".dcm") and nth(n) else None


# --- faults that pass: everything is here in the end

PASSING = {
    "500 once": ("status", 500),
    "429 once": ("status", 429),
    "503 once": ("status", 503),
    "reset in mid-body": ("reset", None),
    "corrupt in transit, same size": ("flip", None),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_faults_of_the_object_store(
    name: str, tmp_path: Path, s3: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    times = 2 if name in ("500 once", "reset in mid-body") else 1
    s3.fault = _first_object(rows, lambda n: n <= times, PASSING[name])
    report = fetch()
    assert report.ok
    intact(tmp_path / "r", whole=True)
    outcome(name, "idc", SURVIVED)


def test_listing_fails_once(tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome) -> None:
    s3.fault = lambda key, n: ("status", 500) if key.startswith("list") and n <= 4 else None
    assert fetch().ok
    intact(tmp_path / "r", whole=True)
    outcome("500 for lists of objects, for a while", "idc", SURVIVED)


def test_a_server_that_hangs(tmp_path: Path, s3: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome) -> None:
    hung: set[str] = set()

    def fault(key: str, n: int) -> Any:
        if _series(rows) in key and key.endswith(".dcm") and n == 1 and not hung:
            hung.add(key)
            return "hang"
        return None

    s3.fault = fault
    assert fetch(timeout_s=1.0).ok
    assert hung
    intact(tmp_path / "r", whole=True)
    outcome("hang", "idc", SURVIVED)


NBIA_PASSING = {
    "500 once": lambda nbia, uid: 500,
    "429 once": lambda nbia, uid: 429,
    "reset in mid-body": lambda nbia, uid: "reset",
    "truncated zip": lambda nbia, uid: nbia.zip(uid)[:-700],
    "valid but short zip": lambda nbia, uid: nbia.zip(uid, change=lambda members: members.pop()),
    "wrong MD5 in md5hashes.csv": lambda nbia, uid: nbia.zip(uid, digests=lambda name, data: "0" * 32),
    "no md5hashes.csv": lambda nbia, uid: nbia.zip(uid, with_md5=False),
    "HTML error page as a zip": lambda nbia, uid: b"<!DOCTYPE html><html>Down for maintenance</html>",
    "hang": lambda nbia, uid: "hang",
}


@pytest.mark.parametrize("name", NBIA_PASSING)
def test_passing_faults_of_nbia(
    name: str, tmp_path: Path, nbia: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    uid = _series(rows)
    nbia.spoil = lambda series, n: NBIA_PASSING[name](nbia, uid) if series == uid and n == 1 else None
    assert fetch("nbia", timeout_s=1.0).ok
    assert nbia.seen[uid] > 1
    intact(tmp_path / "r", whole=True)
    outcome(name, "nbia", SURVIVED)


# --- faults that stay: the series fails and says why, the rest comes

LASTING = {
    "500 for ever": (("status", 500), "500"),
    "403": (("status", 403), "403"),
    "corrupt at the source, same size": ("flip", "MD5"),
    "HTML error page for an object": ("html", "damaged"),
}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_faults_of_the_object_store(
    name: str, tmp_path: Path, s3: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    fault, word = LASTING[name]
    s3.fault = _first_object(rows, lambda n: True, fault)
    with pytest.raises(IncompleteDownloadError, match=word) as caught:
        fetch()
    assert [one.series_uid for one in caught.value.report.failed] == [_series(rows)]
    assert caught.value.report.series == len(rows) - 1
    intact(tmp_path / "r", whole=False)
    assert not list((tmp_path / "r").rglob(f"*{_series(rows)}"))
    assert read_series(tmp_path / "r")[_series(rows)].state == "failed"
    s3.clear()
    report = fetch(retry_failed=True)
    assert (report.series, report.ok) == (1, True)
    intact(tmp_path / "r", whole=True)
    outcome(name, "idc", DETECTED)


def test_wrong_uid_inside(
    tmp_path: Path, s3: Any, rows: Any, phantom: Path, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    """The store holds a right-sized file of another series, with an ETag of its own: only the UIDs can tell."""
    import hashlib

    one, other = _series(rows), _series(rows, 2)
    victim = sorted(phantom.rglob(f"*{one}/*.dcm"))[0]
    content = victim.read_bytes().replace(one.encode(), other.encode())
    assert len(content) == victim.stat().st_size
    good, bad = (hashlib.md5(data).hexdigest().encode() for data in (victim.read_bytes(), content))

    def fault(key: str, n: int) -> Any:
        if victim.name in key:
            return ("body", lambda body: content)
        return ("body", lambda body: body.replace(good, bad)) if key.startswith("list") else None

    s3.fault = fault
    with pytest.raises(IncompleteDownloadError, match=f"is of series {other}"):
        fetch()
    intact(tmp_path / "r", whole=False)
    outcome("wrong UID inside a file", "idc", DETECTED)


HOSTILE = {
    "zip-slip": (lambda members: members.append(("../../../../escaped.dcm", b"x")), "hostile"),
    "absolute member name": (lambda members: members.append(("/tmp/escaped.dcm", b"x")), "hostile"),
    "member twice": (lambda members: members.append(members[0]), "twice"),
}


def _link(members: list[tuple[Any, bytes]]) -> None:
    item = zipfile.ZipInfo("1-000.dcm")
    item.create_system = 3
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    members[0] = (item, b"/etc/passwd")


def _bomb(members: list[tuple[Any, bytes]]) -> None:
    members[0] = (members[0][0], b"\0" * (40 << 20))


def _other_series(members: list[tuple[Any, bytes]]) -> None:
    members[0] = (members[0][0], members[1][1])


HOSTILE["symlink member"] = (_link, "link")
HOSTILE["zip bomb"] = (_bomb, "unpack to more")
HOSTILE["a file twice, under two names"] = (_other_series, "MD5")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives(
    name: str, tmp_path: Path, nbia: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    change, word = HOSTILE[name]
    uid = _series(rows)
    spoilt = nbia.zip(uid, change=change)
    nbia.spoil = lambda series, n: spoilt if series == uid else None
    with pytest.raises(IncompleteDownloadError, match=word):
        fetch("nbia")
    intact(tmp_path / "r", whole=False)
    assert not list(tmp_path.rglob("escaped*"))
    assert not Path("/tmp/escaped.dcm").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]
    outcome(name, "nbia", DETECTED)


def test_an_archive_that_lies_about_sizes(
    tmp_path: Path, nbia: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome
) -> None:
    uid = _series(rows)
    data = bytearray(nbia.zip(uid))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"md5hashes.csv"))  # of the list at its end
    entry = data.rindex(b"PK\x01\x02", 0, entry)
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    nbia.spoil = lambda series, n: bytes(data) if series == uid else None
    with pytest.raises(IncompleteDownloadError):
        fetch("nbia")
    intact(tmp_path / "r", whole=False)
    outcome("zip that lies about a size", "nbia", DETECTED)


def test_a_series_that_the_server_does_not_have(
    tmp_path: Path, nbia: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(nbia.files, _series(rows))
    with pytest.raises(IncompleteDownloadError, match="no such series"):
        fetch("nbia")
    intact(tmp_path / "r", whole=False)
    outcome("empty answer (no such series)", "nbia", DETECTED)


def test_no_server_at_all(tmp_path: Path, phantom: Path, quick: RetryPolicy, intact: Check, outcome: Outcome) -> None:
    nowhere = "http://127.0.0.1:9"
    for source in ("idc", "nbia"):
        with pytest.raises(IncompleteDownloadError):
            download(tmp_path, source=source, table=phantom / "series.csv", endpoint=nowhere, retries=quick)
        assert intact(tmp_path, whole=False) == 0
        outcome("nobody answers", source, "detected")


# --- what happens to the disk


def test_same_size_corruption_on_disk(
    tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome, rows: Any
) -> None:
    fetch()
    root = tmp_path / "r"
    victim = sorted(root.rglob(f"*{_series(rows)}/*.dcm"))[2]
    content = bytearray(victim.read_bytes())
    content[-50] ^= 1
    victim.write_bytes(bytes(content))
    assert main(["verify", str(root), "--deep", "--quiet"]) == 1
    s3.seen.clear()
    assert fetch(deep=True).series == 1
    assert sum(count for key, count in s3.seen.items() if key.endswith(".dcm")) == 1
    intact(root, whole=True)
    assert [path.read_bytes() for path in (root / ".hcc-tace" / "replaced").rglob("*.dcm")] == [bytes(content)]
    outcome("same-size corruption on disk", "idc", "detected by --deep, fetched again")


def test_the_source_changed_after_it_was_recorded(
    tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome, rows: Any
) -> None:
    """A pixel is changed in the store, and its ETag with it: only what was recorded before can tell."""
    import hashlib

    fetch()
    root = tmp_path / "r"
    victim = sorted(root.rglob(f"*{_series(rows)}/*.dcm"))[2]
    data = victim.read_bytes()
    spoilt = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
    good, bad = (hashlib.md5(one).hexdigest().encode() for one in (data, spoilt))
    victim.unlink()

    def fault(key: str, n: int) -> Any:
        if victim.name in key:
            return ("body", lambda body: spoilt)
        return ("body", lambda body: body.replace(good, bad)) if key.startswith("list") else None

    s3.fault = fault
    with pytest.raises(IncompleteDownloadError, match="other bytes than were recorded"):
        fetch()
    intact(root, whole=False)
    s3.clear()
    fetch()
    intact(root, whole=True)
    outcome("content and ETag changed at the source after a download", "idc", DETECTED)


def test_files_that_vanished_or_were_cut(
    tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome, rows: Any
) -> None:
    fetch()
    root = tmp_path / "r"
    first, second, *_ = sorted(root.rglob(f"*{_series(rows)}/*.dcm"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-10])
    s3.seen.clear()
    fetch()
    assert sum(count for key, count in s3.seen.items() if key.endswith(".dcm")) == 2
    intact(root, whole=True)
    outcome("files deleted and cut short on disk", "idc", SURVIVED)


def test_a_broken_ledger(tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome) -> None:
    fetch()
    root = tmp_path / "r"
    for suffix in ("-wal", "-shm"):
        Path(f"{ledger_path(root)}{suffix}").unlink(missing_ok=True)
    ledger_path(root).write_bytes(os.urandom(8192))
    s3.seen.clear()
    fetch()
    assert not [key for key in s3.seen if key.endswith(".dcm")]  # the files themselves were proof enough
    intact(root, whole=True)
    outcome("ledger overwritten with noise", "idc", SURVIVED)


def test_the_ledger_does_not_claim_what_a_crash_left_undone(
    tmp_path: Path, s3: Any, fetch: Any, intact: Check, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop before and after every step of placing a series."""
    from hcc_tace_data.downloads import place
    from hcc_tace_data.integrity.ledger import Ledger

    class Crash(BaseException):
        pass

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    root = tmp_path / "r"
    steps = [(Ledger, "moving"), (place, "_move"), (place, "sync_folder"), (Ledger, "whole")]
    for owner, name in steps:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, crash)
            with pytest.raises(Crash):
                fetch()
        intact(root, whole=False)
    s3.seen.clear()
    fetch()
    intact(root, whole=True)
    outcome("crash at every step of placing a series", "idc", SURVIVED)


def test_no_room_from_the_start(tmp_path: Path, fetch: Any, intact: Check, outcome: Outcome, monkeypatch: Any) -> None:
    monkeypatch.setattr("hcc_tace_data.downloads.selection._free", lambda root: 1 << 20)
    with pytest.raises(DiskFullError, match=r"are missing. Nothing was fetched"):
        fetch()
    assert intact(tmp_path / "r", whole=False) == 0
    outcome("not enough room to begin with", "idc", "detected before the first byte")


@pytest.mark.parametrize("source", ["idc", "nbia"])
def test_a_limit_on_the_size_of_files(
    source: str, tmp_path: Path, fetch: Any, intact: Check, outcome: Outcome, rows: Any
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # more than a slice or the ledger's own files ask for, less than the segmentation
    limit = 20_000 if source == "nbia" else 40_000
    size = max(path for path in (int(row["bytes"]) for row in rows if row["modality"] == "SEG"))
    assert size > limit
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(DiskFullError, match=r"are still missing|nothing was fetched") as caught:
            fetch(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert "Make room" in str(caught.value)
    intact(tmp_path / "r", whole=False)
    fetch(source)
    intact(tmp_path / "r", whole=True)
    outcome("disk full (RLIMIT_FSIZE)", source, "stopped cleanly, then resumed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the system lets us make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1100k", "none", str(folder)]
    made = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not made:
        pytest.skip("mounting a small file system needs rights that this user does not have")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_fills_up(
    small_disk: Path, phantom: Path, s3: Any, quick: RetryPolicy, intact: Check, outcome: Outcome, monkeypatch: Any
) -> None:
    monkeypatch.setattr("hcc_tace_data.downloads.selection._free", lambda root: 1 << 40)
    with pytest.raises(DiskFullError, match="bytes are still missing"):
        download(small_disk / "r", table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    intact(small_disk / "r", whole=False)
    subprocess.run(["mount", "-o", "remount,size=90m", str(small_disk)], check=True)
    download(small_disk / "r", table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    intact(small_disk / "r", whole=True)
    outcome("disk full (small tmpfs)", "idc", "stopped cleanly, then resumed")


def test_a_root_that_cannot_be_written(
    tmp_path: Path, phantom: Path, s3: Any, quick: RetryPolicy, outcome: Outcome, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for root in (small_disk, small_disk / "deeper"):
        with pytest.raises(DownloadError, match=r"cannot be written: .*[Rr]ead-only"):
            download(root, table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DownloadError, match="cannot be written"):
        download(tmp_path / "file", table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    assert not s3.seen
    outcome("read-only root; a file in its place", "idc", "detected before the first byte")


def test_a_read_only_copy_can_be_verified(
    small_disk: Path, phantom: Path, s3: Any, quick: RetryPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    subprocess.run(["mount", "-o", "remount,size=90m", str(small_disk)], check=True)
    download(small_disk, table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert main(["verify", str(small_disk), "--deep", "--quiet"]) == 0


def test_names_that_are_too_long(tmp_path: Path, phantom: Path, s3: Any, outcome: Outcome) -> None:
    for root in (tmp_path / ("x" * 300), tmp_path.joinpath(*["y" * 200] * 19)):
        with pytest.raises(DownloadError, match="name too long"):
            download(root, table=phantom / "series.csv", endpoint=s3.url)
    table = tmp_path / "t.csv"
    table.write_text((phantom / "series.csv").read_text().replace("HCC_002", "H" * 300))
    assert not s3.seen
    # a long PatientID gets a shorter folder, as every name of a file does; the files then name another patient
    with pytest.raises(DownloadError, match=r"5 series could not be fetched"):
        download(tmp_path / "r", table=table, endpoint=s3.url)
    assert not [path for path in (tmp_path / "r").rglob("*.dcm") if "staging" not in str(path)]
    outcome("name too long", "idc", "detected before the first byte")


# --- what happens to the process


@pytest.fixture
def forked() -> Iterator[subprocess.Popen[str]]:
    """A warm process that forks downloads."""
    script = Path(__file__).with_name("forked.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()


def _start(process: subprocess.Popen[str], words: list[str]) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(words) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def _ended(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.parametrize("source", ["idc", "nbia"])
def test_kill_at_random_moments(
    source: str, tmp_path: Path, phantom: Path, s3: Any, nbia: Any, intact: Check, outcome: Outcome, forked: Any
) -> None:
    root = tmp_path / "r"
    words = ["download", str(root), "--table", str(phantom / "series.csv"), "--yes", "--quiet", "--source", source]
    words += ["--endpoint", s3.url, "--workers", "2"] if source == "idc" else ["--endpoint", nbia.url, "--workers", "2"]
    s3.delay_s = 0.002
    dice = random.Random(20)
    killed = 0
    full_s = 0.6 if source == "idc" else 1.5
    wanted = KILLS if source == "idc" else max(2, KILLS // 5)
    for _ in range(4 * wanted):
        child = _start(forked, words)
        time.sleep(dice.uniform(0.05, full_s))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        done = _ended(forked) != -signal.SIGKILL
        killed += not done
        if root.is_dir():
            intact(root)
            if done or (
                dice.random() < 0.3
                and intact(root)
                and not read_ledger(root).keys()
                ^ {p.relative_to(root).as_posix() for p in root.rglob("*.dcm") if ".hcc-tace" not in p.parts}
            ):
                shutil.rmtree(root)  # from the start again, to be killed at other moments
                s3.served.clear()
        if done:
            full_s *= 0.7  # this machine is faster than that: earlier, next time
        if killed == wanted:
            break
    assert killed
    _start(forked, words)
    assert _ended(forked) == 0
    intact(root, whole=True)
    outcome(f"kill -9 at {killed} random moments", source, SURVIVED)


def test_what_is_whole_is_not_fetched_again_after_a_kill(
    tmp_path: Path, phantom: Path, s3: Any, intact: Check, outcome: Outcome, forked: Any
) -> None:
    root = tmp_path / "r"
    words = ["download", str(root), "--table", str(phantom / "series.csv"), "--yes", "--quiet", "--endpoint", s3.url]
    words += ["--workers", "2"]
    s3.delay_s = 0.01
    child = _start(forked, words)
    while sum(count for key, count in s3.served.items() if key.endswith(".dcm")) < 25:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    _ended(forked)
    time.sleep(0.3)  # what outlived it ends by itself
    staged = len([path for path in root.rglob("*") if path.suffix == ".dcm"])
    assert staged >= 15
    s3.clear()
    _start(forked, words)
    assert _ended(forked) == 0
    total = len(list(phantom.glob("HCC_*/*/*/*.dcm")))
    assert sum(count for key, count in s3.served.items() if key.endswith(".dcm")) <= total - staged
    intact(root, whole=True)
    outcome("kill -9, then again: whole objects are kept", "idc", SURVIVED)


def test_ctrl_c(tmp_path: Path, phantom: Path, s3: Any, intact: Check, outcome: Outcome) -> None:
    root = tmp_path / "r"
    s3.delay_s = 0.02
    words = [sys.executable, "-m", "hcc_tace_data", "download", str(root), "--table", str(phantom / "series.csv")]
    process = subprocess.Popen([*words, "--endpoint", s3.url, "--yes"], stderr=subprocess.PIPE, text=True)
    while sum(s3.served.values()) < 12:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Complete files are kept" in said
    assert "Traceback" not in said
    intact(root, whole=False)
    s3.clear()
    assert main([*words[3:], "--endpoint", s3.url, "--yes", "--quiet"]) == 0
    intact(root, whole=True)
    outcome("Ctrl-C", "idc", "stopped cleanly, then resumed")


def test_two_processes_at_once(
    tmp_path: Path, phantom: Path, s3: Any, intact: Check, outcome: Outcome, fetch: Any, quick: RetryPolicy
) -> None:
    s3.delay_s = 0.02
    words = [sys.executable, "-m", "hcc_tace_data", "download", str(tmp_path / "r"), "--endpoint", s3.url, "--yes"]
    words += ["--table", str(phantom / "series.csv")]
    first = subprocess.Popen([*words, "--quiet"])
    while not s3.served:
        time.sleep(0.02)
    with pytest.raises(FolderLockedError, match=f"process {first.pid} on"):
        fetch(wait=False)
    told: list[str] = []
    report = fetch(notice=told.append)
    assert first.wait() == 0
    assert f"process {first.pid} on" in told[0]
    assert report.here + report.series == len((phantom / "series.csv").read_text().splitlines()) - 1
    assert report.series == 0
    intact(tmp_path / "r", whole=True)
    outcome("two processes at once", "idc", "the second waits, and says for whom")


def test_two_threads_of_one_process(tmp_path: Path, fetch: Any, intact: Check) -> None:
    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    intact(tmp_path / "r", whole=True)


def test_a_lock_that_a_dead_process_left(tmp_path: Path) -> None:
    folder = tmp_path / ".hcc-tace"
    folder.mkdir()
    (folder / "lock").write_text(json.dumps({"pid": 1, "host": "other", "since": "2001"}))
    with lock_folder(tmp_path, wait=False):
        pass


def test_a_clock_that_jumps(
    tmp_path: Path, s3: Any, rows: Any, fetch: Any, intact: Check, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours forth and back while it runs, files dated in the future: nothing is decided by the clock."""
    real = time.time
    dice = random.Random(3)
    monkeypatch.setattr(time, "time", lambda: real() + dice.choice([-1, 1]) * 86400 * dice.randrange(3000))
    s3.fault = _first_object(rows, lambda n: n == 1, "flip")
    fetch()
    intact(tmp_path / "r", whole=True)
    for number, path in enumerate((tmp_path / "r").rglob("*.dcm")):
        os.utime(path, (0, 0) if number % 2 else (4e9, 4e9))
    s3.seen.clear()
    assert fetch().series == 0
    assert not s3.seen
    outcome("clock jumps", "idc", SURVIVED)


def test_waiting_grows_and_is_scattered() -> None:
    waits: list[float] = []
    policy = RetryPolicy(base_s=1, cap_s=30, sleep=waits.append, chance=random.Random(0).random)
    for failures in range(1, 9):
        policy.wait(failures)
    for failures, wait in enumerate(waits):
        whole = min(30, 2**failures)
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == len(waits)


def test_errors_of_this_machine_are_not_tried_again(
    tmp_path: Path, fetch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr("hcc_tace_data.downloads.place.Path.rename", refuse)
    with pytest.raises(DownloadError, match=r"cannot be written: .*Permission denied"):
        fetch()
