"""mypy --strict over the package as it is installed.

    python scripts/check_types.py

In the checkout `loaders/` and `validators/` lie beside the package, where mypy does not find them under their imported
names; so the sources are laid out as a wheel has them, in a temporary folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Return mypy's exit code."""
    leave = shutil.ignore_patterns("__pycache__")
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "hcc_tace_data"
        shutil.copytree(ROOT / "hcc_tace_data", package, ignore=leave)
        for name in ("loaders", "validators"):
            shutil.copytree(ROOT / name, package / name, ignore=leave)
        options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
        command = [sys.executable, "-m", "mypy", *options, "-p", "hcc_tace_data"]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
