"""Make the report of a 105-patient tiny twin; fail if it takes two minutes or 60 MB: check_report.py FOLDER."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hcc_tace_data.phantom import make_phantom
from hcc_tace_data.report import write_report

SECONDS, MEGABYTES = 120, 60


def main() -> int:
    """Return 0 if both limits are kept."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/report-105")
    if not (folder / "twin" / "series.csv").is_file():
        make_phantom(folder / "twin", patients=105, size="tiny")
    start = time.monotonic()
    summary = write_report(folder / "twin", folder / "report.html")
    seconds, size = time.monotonic() - start, summary.bytes / 1e6
    print(f"{summary.patients} patients, {summary.pictures} slices: {seconds:.0f} s, {size:.1f} MB ({summary.path})")
    return int(seconds >= SECONDS or size >= MEGABYTES or summary.pictures != 105 * 5 or bool(summary.not_drawn))


if __name__ == "__main__":
    sys.exit(main())
