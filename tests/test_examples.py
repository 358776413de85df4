"""The examples run as they are, with fewer steps."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import hcc_tace_data

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(autouse=True)
def _as_if_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give an example its own temporary folder and one thread, and put the environment back.

    Examples run in this process: one of its own takes longer to import what it needs than most of them run.
    """
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ.update(TMPDIR=str(tmp_path), OMP_NUM_THREADS="1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


def _example(name: str) -> ModuleType:
    """Return an example as a new module, which a test may change."""
    sys.modules.pop(name, None)
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == EXAMPLES
    return sys.modules.pop(name)


def test_script(
    tmp_path: Path, make_twin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = _example("baseline")
    monkeypatch.setattr(baseline, "make_phantom", make_twin)  # the notebook makes the same twin for itself
    baseline.main(steps=4)
    out = capsys.readouterr().out
    assert "tumour: Dice" in out
    report = Path(out.strip().splitlines()[-1].removeprefix("report: "))
    assert report.is_file()
    assert report.is_relative_to(tmp_path)


@pytest.mark.timeout(600)
def test_notebook(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "baseline.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without results
    for cell in notebook.cells:
        cell.source = cell.source.replace("STEPS = 60", "STEPS = 4")
    NotebookClient(
        notebook, timeout=580, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    last = notebook.cells[-1].outputs[0]
    assert "image/png" in last.data


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a GPU, in this process and in those that it starts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # _as_if_alone puts it back


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.timeout(600)
def test_acceptance_checks_pass_on_a_cpu(
    tmp_path: Path, make_twin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hcc_tace_data, "make_phantom", make_twin)
    program = str(EXAMPLES / "gpu_acceptance.py")
    monkeypatch.setattr(sys, "argv", [program, "--cpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(program, run_name="__main__")
    rows = {row["check"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert ended.value.code == 0, [row for row in rows.values() if row["status"] == "failed"]
    assert [name for name, row in rows.items() if row["status"] == "skipped"] == ["fp16"]
    assert {"devices", "precisions", "step", "loop", "validation", "deterministic", "resume"} <= rows.keys()
    assert {"processes", "overfit", "reproduce"} <= rows.keys()
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("segmentation_loss = lambda *a: whole(*a) + 0.01", "precisions"),
        ("overfit_one_batch = lambda *a, **k: {'dice': 0.5}", "overfit"),
        ("Trainer.go = lambda self, progress: 1 / 0", "validation"),
    ],
)
def test_acceptance_fails_with_a_line_and_an_exit_code(
    change: str, check: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = _example("gpu_acceptance")
    monkeypatch.setattr(program.Trainer, "go", program.Trainer.go)  # which a change replaces for all: put it back
    exec(f"program.{change}", {"program": program, "whole": program.segmentation_loss})
    code = program.main(["--cpu", "--only", check])
    out, err = capsys.readouterr()
    assert code == 1, err[-2000:]
    last = json.loads(out.splitlines()[-1])
    assert (last["check"], last["status"]) == (check, "failed")
    assert last["reason"]
