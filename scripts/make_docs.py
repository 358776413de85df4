"""Build the documentation site into build/site; a broken link or reference fails the build.

    python scripts/make_docs.py

The reference reads the sources as a wheel has them, so they are laid out under build/docs-src first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: A reference of docstrings, such as :class:`~package.Name`; the site shows the name.
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|py:\w+):`(?P<short>~?)(?P<name>[^`<>]+)`")


def _plain_role(found: re.Match[str]) -> str:
    name = found["name"]
    return f"`{name.rpartition('.')[2] if found['short'] else name}`"


def main() -> int:
    """Return mkdocs' exit code."""
    place = ROOT / "build" / "docs-src"
    shutil.rmtree(place, ignore_errors=True)
    leave = shutil.ignore_patterns("__pycache__", "static", "data")
    shutil.copytree(ROOT / "hcc_tace_data", place / "hcc_tace_data", ignore=leave)
    for name in ("loaders", "validators"):
        shutil.copytree(ROOT / name, place / "hcc_tace_data" / name, ignore=leave)
    for path in place.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_ROLE.sub(_plain_role, text), encoding="utf-8")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"  # an advertisement
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "-f",
        str(ROOT / "scripts" / "mkdocs.yml"),
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
