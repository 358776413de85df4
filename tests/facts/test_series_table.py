"""The series table: remade the same from its wheel, and refused where it cannot be."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import pytest

from hcc_tace_data import Catalog
from hcc_tace_data.errors import CatalogError, UsageError
from hcc_tace_data.facts.series_table import load_series_table, read_series_rows
from hcc_tace_data.facts.splits import FOLDS, patients_of

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str):  # type: ignore[no-untyped-def]  # a module object
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_remaking_gives_the_same_table(tmp_path: Path) -> None:
    wanted = Catalog.load().versions.idc_index_data
    try:
        have = version("idc-index-data")
    except PackageNotFoundError:
        pytest.skip("idc-index-data, which the table is remade from, is not installed; the extra [test] brings it")
    if have != wanted:
        pytest.skip(f"idc-index-data {have} describes another release than {wanted}, of which the table was made")
    script = _script("make_index")
    script.write_table(script.make_table(), tmp_path / "series.csv.gz")
    shipped = ROOT / "hcc_tace_data" / "data" / "series.csv.gz"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "series.csv.gz"), pd.read_csv(shipped))


def test_object_store_addresses() -> None:
    table = load_series_table(with_bamf=True)
    assert set(table["bucket"]) == {"idc-open-data"}
    assert table["prefix"].str.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").all()
    assert table["licence"].eq("CC BY 4.0").all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("series_uid", "1.02.3", "series_uid"),
        ("instances", "-3", "instances"),
        ("bytes", "1.5", "bytes"),
        ("prefix", "../../etc", "prefix"),
        ("prefix", "/etc", "prefix"),
        ("patient_id", "HCC 1;rm", "patient_id"),
        ("series_number", "three", "series_number"),
    ],
)
def test_a_value_that_cannot_be_is_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    table = load_series_table().head(5).astype(str)
    table.loc[2, column] = value
    table.to_csv(tmp_path / "series.csv", index=False)
    with pytest.raises(CatalogError, match=f"line 4: {message}"):
        load_series_table(tmp_path / "series.csv")


def test_a_series_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = load_series_table().head(3)
    pd.concat([table, table.head(1)]).to_csv(tmp_path / "series.csv", index=False)
    with pytest.raises(CatalogError, match="twice"):
        load_series_table(tmp_path / "series.csv")
    table.drop(columns="prefix").to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(CatalogError, match="lacks the columns prefix"):
        load_series_table(tmp_path / "short.csv")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [*lines[:2], lines[2].rpartition(",")[0], *lines[3:]], "line 3: it has more or fewer"),
        (lambda lines: [*lines[:2], lines[2] + ",more", *lines[3:]], "line 3: it has more or fewer"),
        (lambda lines: [lines[0] + ",bytes", *(line + ",1" for line in lines[1:])], "a column twice"),
        (lambda lines: [*lines[:2], '"' + lines[2], *lines[3:]], "is not a series table"),
        (lambda lines: [], "lacks the columns"),
    ],
)
def test_a_table_of_another_form_is_refused(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]], message: str
) -> None:
    load_series_table().head(4).to_csv(tmp_path / "series.csv", index=False)
    lines = (tmp_path / "series.csv").read_text().splitlines()
    (tmp_path / "series.csv").write_text("".join(f"{line}\n" for line in spoil(lines)))
    with pytest.raises(CatalogError, match=message):
        read_series_rows(tmp_path / "series.csv")


def test_a_packed_table_that_was_cut_is_refused(tmp_path: Path) -> None:
    load_series_table().to_csv(tmp_path / "series.csv.gz", index=False)
    assert read_series_rows(tmp_path / "series.csv.gz") == read_series_rows()
    whole = (tmp_path / "series.csv.gz").read_bytes()
    for cut in (0, 9, len(whole) // 2, len(whole) - 4):
        (tmp_path / "series.csv.gz").write_bytes(whole[:cut])
        with pytest.raises(CatalogError):
            read_series_rows(tmp_path / "series.csv.gz")


def test_rows_and_table_agree() -> None:
    table = load_series_table(with_bamf=True)
    rows = read_series_rows(with_bamf=True)
    assert table.astype(object).where(table.notna(), None).to_dict("records") == rows


def test_folds_partition_the_patients() -> None:
    everyone = {f"HCC_{number:03d}" for number in range(1, 106)}
    test = set(patients_of("test"))
    validated: list[str] = []
    for fold in range(FOLDS):
        train, validation = set(patients_of("train", fold)), set(patients_of("validation", fold))
        assert not train & validation
        assert not (train | validation) & test
        assert train | validation | test == everyone
        validated += sorted(validation)
    assert sorted(validated) == sorted(everyone - test)
    with pytest.raises(UsageError, match="0 to 4"):
        patients_of("train", 5)
    with pytest.raises(UsageError, match="'val'"):
        patients_of("val")


def test_the_split_is_remade_the_same(shared_data: Path, tmp_path: Path) -> None:
    rows = _script("make_splits").make_splits(shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx")
    shipped = pd.read_csv(ROOT / "hcc_tace_data" / "data" / "splits.csv", dtype=str, keep_default_na=False)
    assert rows == shipped.to_dict("records")


def test_the_split_is_balanced(shared_data: Path) -> None:
    from hcc_tace_data import load_clinical

    table = load_clinical(shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx").set_index("patient_id")
    parts = [table.loc[patients_of("test")], *(table.loc[patients_of("validation", fold)] for fold in range(FOLDS))]
    for part in parts:
        assert 1 <= (part["tace_response"] == "refractory").sum() <= 3
        assert 0.5 <= (part["tace_response"] == "susceptible").mean() <= 0.75
