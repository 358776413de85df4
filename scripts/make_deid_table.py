"""Make hcc_tace_data/data/ps3_15_e1_1.csv from a JSON copy of DICOM PS3.15, Table E.1-1.

Usage: python scripts/make_deid_table.py TABLE.json. Facts only: tag, name, action of the Basic Profile, and actions
under the options that TCIA applies. The JSON (innolitics/dicom-standard, early 2025) does not state its edition.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from hcc_tace_data.system.files import atomic_path

_COLUMNS = {
    "tag": "tag",
    "name": "name",
    "basic": "basicProfile",
    "descriptors": "cleanDescOpt",
    "modified_dates": "rtnLongModifDatesOpt",
    "characteristics": "rtnPatCharsOpt",
    "device": "rtnDevIdOpt",
    "private": "rtnSafePrivOpt",
}


def main() -> None:
    rows = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    target = Path(__file__).resolve().parent.parent / "hcc_tace_data" / "data" / "ps3_15_e1_1.csv"
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            tag = row["tag"].strip("()").replace(",", "") if "WHERE" not in row["tag"] else "private"
            writer.writerow([tag, *(row.get(key, "") for key in list(_COLUMNS.values())[1:])])


if __name__ == "__main__":
    main()
