"""The examples run as they are, with fewer steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.timeout(600)
def test_script(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import baseline; baseline.main(steps=4)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tumour: Dice" in done.stdout
    assert Path(done.stdout.strip().splitlines()[-1].removeprefix("report: ")).is_file()


@pytest.mark.timeout(600)
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "baseline.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without results
    for cell in notebook.cells:
        cell.source = cell.source.replace("STEPS = 60", "STEPS = 4")
    NotebookClient(
        notebook, timeout=580, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    last = notebook.cells[-1].outputs[0]
    assert "image/png" in last.data


@pytest.mark.timeout(600)
def test_acceptance_checks_pass_on_a_cpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "gpu_acceptance.py"), "--cpu"],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, [row for row in rows.values() if row["status"] == "failed"]
    assert [name for name, row in rows.items() if row["status"] == "skipped"] == ["fp16"]
    assert {"devices", "precisions", "step", "loop", "validation", "deterministic", "resume"} <= rows.keys()
    assert {"processes", "overfit", "reproduce"} <= rows.keys()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("segmentation_loss = lambda *a: whole(*a) + 0.01", "precisions"),
        ("overfit_one_batch = lambda *a, **k: {'dice': 0.5}", "overfit"),
        ("Trainer.go = lambda self, progress: 1 / 0", "validation"),
    ],
)
def test_acceptance_fails_with_a_line_and_an_exit_code(change: str, check: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import gpu_acceptance as g; "
        f"whole = g.segmentation_loss; g.{change}; "
        f"sys.exit(g.main(['--cpu', '--only', {check!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 1, done.stderr[-2000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["check"], last["status"]) == (check, "failed")
    assert last["reason"]
