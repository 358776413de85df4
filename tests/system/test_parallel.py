"""Worker processes start from any main program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import operator
from hcc_tace_data.system.parallel import process_pool
with process_pool(2) as pool:
    results = list(pool.map(operator.add, range(4), range(4)))
print("once", results, __file__ if "__file__" in globals() else "no file")
"""


@pytest.mark.parametrize("how", ["script", "stdin", "option"])
def test_an_unguarded_program_runs_once(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE)
    words = {"script": [str(script)], "stdin": ["-"], "option": ["-c", CODE]}[how]
    done = subprocess.run(
        [sys.executable, *words],
        input=CODE if how == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once [0, 2, 4, 6]") == 1
    if how == "script":
        assert str(script) in done.stdout
