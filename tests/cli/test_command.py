"""The command as a whole: help, options that are the same everywhere, pipes that close, Ctrl-C, exit codes."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperGroup, TyperOption

from hcc_tace_data.cli import main as command
from hcc_tace_data.cli.download import _failures
from hcc_tace_data.cli.main import main
from hcc_tace_data.cli.options import chosen_patients, names_of
from hcc_tace_data.cli.verbs import VERBS, Verb
from hcc_tace_data.downloads.run import FailedSeries
from hcc_tace_data.errors import PatientNotFoundError
from hcc_tace_data.system.words import count

#: Verbs whose PatientID or number of patients is the thing itself, not a choice among those of a folder.
_OWN_PATIENTS = {"view", "phantom"}
#: Options that mean the same in every verb.
_SAME = ("--json", "--quiet", "--patients", "--annotations", "--cache", "--dask", "--predictions")


def _commands() -> Iterator[tuple[str, Any]]:
    for name, verb in VERBS.items():
        found: Any = typer.main.get_command(importlib.import_module(verb.module).app)
        if isinstance(found, TyperGroup):
            yield from ((f"{name} {sub}", one) for sub, one in found.commands.items())
        else:
            yield name, found


COMMANDS = dict(_commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_the_same_everywhere(name: str) -> None:
    options = {flag: one for one in COMMANDS[name].params for flag in one.opts if isinstance(one, TyperOption)}
    assert "-q" in options, "every verb has -q/--quiet"
    assert "--quiet" in options["-q"].opts
    assert "--patient" not in options, "the option is called --patients"
    if "--patients" in options and name not in _OWN_PATIENTS:
        assert options["--patients"].multiple, "--patients may be repeated"
    if "--json" in options:
        assert options["--json"].help == "Print one JSON document."
    for word in ("--install-completion", "--show-completion"):
        assert word not in options, "completion of one verb is no completion of the command"


@pytest.mark.parametrize("verb", ["download", "validate", "baseline reproduce", "measure"])
def test_help_is_readable_in_80_columns(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of types leave room for the text."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    options = shown[shown.index(" Options ") :]
    assert {line for line in options.splitlines() if re.search(r"<(bool|str|path|int|float|list)\b", line)} <= {
        line for line in options.splitlines() if "--help" in line
    }
    # as wide as the longest word of the help, for verbs with an option of two names too
    assert verb != "download" or "$HCC_TACE_S3_ENDPOINT" in options
    assert "[default: lesion]" in options or verb != "measure"


def test_an_option_has_one_help_text() -> None:
    texts: dict[str, set[str]] = {}
    for name, verb in COMMANDS.items():
        for one in verb.params:
            if name not in _OWN_PATIENTS:
                texts.setdefault(max(one.opts, key=len), set()).add(one.help)
    assert {flag: texts[flag] for flag in _SAME if len(texts[flag]) > 1} == {}


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in (["help"], ["--help"], ["-h"], []):
        assert main(words) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    assert all(f"  {name} " in shown[0] for name in VERBS)
    assert "130" in shown[0]
    assert max(map(len, shown[0].splitlines())) <= 80
    assert main(["help", "list"]) == 0
    of_a_verb = capsys.readouterr().out
    assert main(["list", "--help"]) == 0
    assert capsys.readouterr().out == of_a_verb
    assert "--patients" in of_a_verb
    assert main(["help", "lst"]) == 2
    assert "Did you mean 'list'?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list", "--format", "csv"], ["list", "--json"], ["--help"]])
def test_a_reader_that_stops_early_is_no_failure(words: list[str]) -> None:
    """As ``hcc-tace list | head -1``."""
    run = subprocess.Popen(
        [sys.executable, "-m", "hcc_tace_data", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.close()
    assert run.stderr.read() == ""
    assert run.wait(timeout=120) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_says_so(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("long_verb")
    module.app = typer.Typer(add_completion=False)  # type: ignore[attr-defined]

    @module.app.command()  # type: ignore[attr-defined]
    def long() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "long_verb", module)
    monkeypatch.setitem(command.VERBS, "long", Verb("long_verb", "Takes long."))
    assert main(["long"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_the_former_name_of_patients_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for words in (["--patients", "HCC_021,HCC_004"], ["--patient", "HCC_021", "--patient=HCC_004"]):
        assert main(["list", "--json", *words]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert main(["list", "--patients", "HCC_021,Smith"]) == 2
    assert "Smith" in capsys.readouterr().err


@given(st.lists(st.lists(st.text("ABC_01 ", min_size=1), min_size=1), max_size=4))
def test_names_may_be_repeated_and_separated_by_commas(groups: list[list[str]]) -> None:
    flat = [name.strip() for group in groups for name in group if name.strip()]
    assert names_of([",".join(group) for group in groups]) == list(dict.fromkeys(flat))
    assert names_of([name for group in groups for name in group]) == list(dict.fromkeys(flat))


def test_patients_that_are_not_there_are_named() -> None:
    assert chosen_patients(None, ["HCC_001"]) is chosen_patients([" , "]) is None
    with pytest.raises(PatientNotFoundError, match=r"No patient X, Y in here \(2 patients; the first is A\)"):
        chosen_patients(["A,X", "Y"], ["B", "A"], where="here")


def test_numbers_have_their_noun() -> None:
    assert [count(n, "study") for n in (0, 1, 2, 1200)] == ["0 studies", "1 study", "2 studies", "1,200 studies"]
    assert [count(2, noun) for noun in ("series", "CT volume", "box", "more problem", "day")] == [
        "2 series", "2 CT volumes", "2 boxes", "2 more problems", "2 days",
    ]  # fmt: skip


def test_the_package_has_no_name_that_is_not_its_own() -> None:
    import hcc_tace_data

    with pytest.raises(ImportError):
        exec("from hcc_tace_data import annotations")
    assert not hasattr(hcc_tace_data, "annotations")


def test_series_that_failed_for_one_reason_are_one_line() -> None:
    reason = 's3://bucket/{}/ could not be listed: Get "http://127.0.0.1:9/bucket?prefix={}": connection refused'
    failed = [FailedSeries(patient_id="HCC_001", series_uid=f"1.2.{n}", reason=reason.format(n, n)) for n in range(6)]
    other = FailedSeries(patient_id="HCC_002", series_uid="1.2.9", reason="the disk is full")
    grouped, alone, hint = _failures([*failed, other])
    assert grouped.startswith("failed: 6 series of 1 patient, all for the same reason")
    assert grouped.endswith("connection refused")
    assert alone == "failed: HCC_002 1.2.9: the disk is full"
    assert "--json" in hint
    assert len(_failures(failed[:2])) == 2
