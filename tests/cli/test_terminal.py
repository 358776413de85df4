"""What comes from files reaches the terminal as text, and errors of the machine as what they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import exit_code_of, main
from hcc_tace_data.errors import DownloadError, FolderLockedError
from hcc_tace_data.system.lock import lock_folder


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("terminal") / "twin", patients=1)


@pytest.fixture(scope="module")
def two(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("two") / "twin", patients=2)


def test_escape_codes_of_file_names_do_not_reach_the_terminal(root: Path) -> None:
    evil = root / "evil\x1b]0;owned\x07\x1b[2J.dcm"
    evil.write_bytes(b"no DICOM")
    try:
        for words in (["verify", str(root)], ["verify", str(root), "--json"], ["-v", "phases", str(root)]):
            done = subprocess.run([sys.executable, "-m", "hcc_tace_data", *words], capture_output=True, check=False)
            assert b"\x1b" not in done.stdout + done.stderr
            assert b"\x07" not in done.stdout + done.stderr
            assert b"owned" in done.stdout + done.stderr
    finally:
        evil.unlink()


def test_a_locked_folder_is_not_a_network_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(FolderLockedError("x")) == 2
    assert exit_code_of(DownloadError("x")) == 4
    with lock_folder(root):
        assert main(["verify", str(root), "--adopt"]) == 2
    assert "Another process works on" in capsys.readouterr().err


def test_a_deep_verification_that_compares_nothing_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(root), "--deep"]) == 1
    assert "no digests are on record" in capsys.readouterr().err
    assert main(["verify", str(root), "--adopt"]) == 0
    assert main(["verify", str(root), "--deep"]) == 0


def test_a_file_that_cannot_be_read_is_no_error_of_writing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hcc_tace_data.integrity import verify

    real, first = verify.md5_of, next(root.rglob("*.dcm"))

    def md5_of(path: Path) -> str:
        if path.name == first.name:
            raise PermissionError(13, "Permission denied", str(path))
        return str(real(path))

    monkeypatch.setattr(verify, "md5_of", md5_of)
    assert main(["verify", str(root), "--adopt"]) == 2
    told = capsys.readouterr().err
    assert "cannot be written" not in told
    assert "1 of" in told
    assert first.name in told
    monkeypatch.undo()
    assert main(["verify", str(root), "--deep", "--quiet"]) == 0  # the others are on record


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_no_room_to_write_is_no_defect_of_the_package(root: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from hcc_tace_data.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for words in (
        ["phases", str(root), "--picture", str(tmp_path / "p.png")],
        ["validate", str(root), "--select", "HT2", "--format", "html", "--out", str(tmp_path / "v.html")],
        ["prepare", str(root), "--cache", str(tmp_path / "store"), "--phases", "annotated"],
        ["phantom", str(tmp_path / "twin"), "--patients", "1"],
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2, (words, done.stderr)
        assert "Make room" in done.stderr or "make room" in done.stderr, (words, done.stderr)
        assert "defect" not in done.stderr
    assert not list(tmp_path.rglob("*.part*"))


@pytest.mark.parametrize(
    "words",
    [
        ["verify"], ["info"], ["validate"], ["phases"], ["phases", "--evidence"], ["measure"],
        ["measure", "--by", "patient"], ["measure", "--by", "pair"], ["list"], ["clinical"], ["explain", "HT501"],
    ],
)  # fmt: skip
def test_output_fits_in_80_columns(two: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    place = [] if words[0] == "explain" else [str(two)]
    assert main([words[0], *place, *words[1:]]) == 0
    lines = capsys.readouterr().out.replace(str(two), "/data/hcc").splitlines()
    assert len(lines) > 2
    assert [line for line in lines if len(line) > 80] == []


def test_facts_and_comparisons_fit_in_80_columns(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["info"], ["compare", "reader_1", str(two)], ["--help"]):
        assert main(words) == 0
        assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == [], words


def test_masks_and_root_in_the_wrong_order(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(two), "reader_1"]) == 2
    assert f"The masks come first: 'hcc-tace compare reader_1 {two}'?" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals of POSIX")
def test_an_error_is_wrapped_on_a_terminal_and_one_line_elsewhere(tmp_path: Path) -> None:
    import os
    import pty

    words = [sys.executable, "-m", "hcc_tace_data", "verify", "--quiet", str(tmp_path / "nowhere")]
    piped = subprocess.run(words, capture_output=True, check=False)
    assert piped.returncode == 3
    assert piped.stderr.count(b"\n") == 1
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(words, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80"}) as run:
        run.wait()
        os.close(theirs)
        shown = os.read(ours, 10_000)
    os.close(ours)
    lines = shown.decode().splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 80 or " " not in line for line in lines)
    assert "".join(lines).replace(" ", "") == piped.stderr.decode().replace(" ", "").strip()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["explain", "501"], 2, "Did you mean 'HT501'?"),
        (["explain", "zzz"], 2, "'hcc-tace explain' lists them all."),
        (["phantom", "new", "--defect", "HT51"], 2, "Did you mean 'HT5"),
        (["verify", "ROOT", "--patients", "HCC_099"], 2, "No patient HCC_099 in the series table (2 patients"),
        (["validate", "ROOT", "--patients", "HCC_099"], 2, "(2 patients; the first is HCC_001)"),
        (["download", "new", "--dry-run", "--patients", "HCC_999"], 2, "No patient HCC_999 in the series table (105"),
        (["validate", "ROOT", "--depth", "pixel"], 2, "Invalid value for '--depth': 'pixel' is not one of"),
        (["phases", "ROOT/series.csv"], 3, "series.csv is a file. Name the folder that holds the DICOM files."),
    ],
)  # fmt: skip
def test_a_wrong_word_gets_a_short_answer(
    two: Path, tmp_path: Path, words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("ROOT", str(two)).replace("new", str(tmp_path / "new")) for word in words]
    assert main(words) == code
    message = capsys.readouterr().err
    assert told in message
    assert len(message.replace(str(two), "").replace(str(tmp_path), "")) < 250
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("words", [["measure", "--help"], ["baseline"], ["explain"], ["--help"]])
def test_a_reader_that_stops_early_is_no_failure(words: list[str]) -> None:
    command = [sys.executable, "-m", "hcc_tace_data", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()  # before anything is written
        told = run.stderr.read()
    assert (run.returncode, told) == (0, b"")


def test_verbs_with_verbs_of_their_own_show_them(capsys: pytest.CaptureFixture[str]) -> None:
    for name, own in (("baseline", "reproduce"), ("outcome", "evaluate")):
        assert main([name]) == 2
        shown = capsys.readouterr()
        assert own in shown.out + shown.err


@pytest.mark.parametrize("words", [["compare"], ["fuse"], ["baseline"], ["baseline", "predict"], ["outcome", "fit"]])
def test_the_help_shows_no_types_of_python(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--help" in text
    for name in ("<bool>", "<path>", "<str>", "<list", "<int"):
        assert name not in text
