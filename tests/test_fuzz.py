"""A short run of the fuzzer: damaged files raise our errors, and what is read equals what pydicom reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "fuzz.py"


def test_ten_seconds_of_damage(twin: Path) -> None:
    files = [*sorted(twin.rglob("CT_*/*.dcm"))[::400], *sorted(twin.rglob("SEG_*/*.dcm"))[:4], *twin.rglob("*.xlsx")]
    assert len(files) > 5
    done = subprocess.run(
        [sys.executable, SCRIPT, "--seconds", "10", *map(str, files)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ct: read" in done.stdout
