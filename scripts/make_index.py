"""Make hcc_tace_data/data/series.csv.gz from the public series index of NCI Imaging Data Commons.

    python scripts/make_index.py [OUT]

Needs the wheel idc-index-data, in the version that catalog.yaml names. Same wheel, same bytes.
"""

from __future__ import annotations

import gzip
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

OUT = Path(__file__).resolve().parents[1] / "hcc_tace_data" / "data" / "series.csv.gz"


def make_table() -> pd.DataFrame:
    """Return the table, one row per series, sorted by patient, date, study and series."""
    spec = find_spec("idc_index_data")
    if spec is None or spec.origin is None:
        sys.exit("idc-index-data is not installed: pip install idc-index-data")
    path = Path(spec.origin).parent / "idc_index.parquet"
    raw = pd.read_parquet(path, filters=[("collection_id", "==", "hcc_tace_seg")])
    prefix = raw["series_aws_url"].str.extract(r"^s3://[^/]+/(.+)/\*$")[0]
    table = pd.DataFrame(
        {
            "patient_id": raw["PatientID"],
            "study_uid": raw["StudyInstanceUID"],
            "study_date": raw["StudyDate"].astype(str),
            "series_uid": raw["SeriesInstanceUID"],
            "modality": raw["Modality"],
            "series_number": raw["SeriesNumber"],
            "series_description": raw["SeriesDescription"].fillna(""),
            "instances": raw["instanceCount"],
            "bytes": (raw["series_size_MB"] * 1e6).round().astype("int64"),
            "bucket": raw["aws_bucket"],
            "prefix": prefix,
            "source": raw["analysis_result_id"].fillna("collection"),
            "licence": raw["license_short_name"],
            "source_doi": raw["source_DOI"],
        }
    )
    return table.sort_values(["patient_id", "study_date", "study_uid", "series_uid"], ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the table as gzipped CSV without a time stamp."""
    data = table.to_csv(index=False, lineterminator="\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def main() -> None:
    """Write the table and say what it holds."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    table = make_table()
    write_table(table, out)
    print(f"{len(table)} series from idc-index-data {version('idc-index-data')} written to {out}")


if __name__ == "__main__":
    main()
