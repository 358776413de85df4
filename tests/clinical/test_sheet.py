"""Reading the sheet from files that may be anything."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hcc_tace_data.clinical import load_clinical, original_headers, read_sheet
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError, UsageError


def test_workbook_csv_and_parquet_give_the_same_table(
    sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], tmp_path: Path
) -> None:
    sheet.loc[3, "chemotherapy"] = "NA"
    book = write_sheet(sheet)
    csv, parquet = tmp_path / "sheet.csv", tmp_path / "sheet.parquet"
    sheet.to_csv(csv, index=False)
    sheet.astype({c: str for c in sheet if sheet[c].map(type).eq(str).any()}).convert_dtypes().to_parquet(parquet)
    expected = load_clinical(book)
    for other in (csv, parquet):
        pd.testing.assert_frame_equal(load_clinical(other), expected)
    assert pd.isna(expected.loc[3, "chemotherapy"])
    assert any("'NA' in 1 row read" in remark for remark in expected.attrs["notes"])


def test_headers_as_idc_spells_them(sheet: pd.DataFrame, tmp_path: Path) -> None:
    renamed = sheet.rename(columns=lambda header: "_" + header.lower().replace("-", "_").replace(" ", "_"))
    renamed.insert(0, "dicom_patient_id", sheet["TCIA_ID"])
    renamed.to_parquet(tmp_path / "idc.parquet")
    assert list(read_sheet(tmp_path / "idc.parquet").columns) == list(sheet.columns)
    assert load_clinical(tmp_path / "idc.parquet")["patient_id"].tolist() == sheet["TCIA_ID"].tolist()


@pytest.mark.parametrize("prefix", ["_", "c_"])
def test_a_database_that_keeps_all_as_text(sheet: pd.DataFrame, tmp_path: Path, prefix: str) -> None:
    expected = load_clinical_of(sheet, tmp_path / "typed.csv")
    text = sheet.map(lambda value: None if value is None else str(value))
    text.columns = [
        (prefix if header[0].isdigit() else "") + re.sub(r"\W", "_", header.lower()) for header in sheet.columns
    ]
    text.insert(0, "source_batch", 0)
    text.to_parquet(tmp_path / "idc.parquet")
    pd.testing.assert_frame_equal(load_clinical(tmp_path / "idc.parquet"), expected)


def load_clinical_of(sheet: pd.DataFrame, path: Path) -> pd.DataFrame:
    sheet.to_csv(path, index=False)
    return load_clinical(path)


def test_original_headers_come_back(sheet: pd.DataFrame, tmp_path: Path) -> None:
    table = load_clinical_of(sheet, tmp_path / "sheet.csv")
    assert list(original_headers(table).columns) == list(sheet.columns)
    assert original_headers(table)["Tr_Size"].tolist() == sheet["Tr_Size"].tolist()
    with pytest.raises(UsageError, match="'died'"):
        original_headers(table.drop(columns="died"))


def test_folder_is_searched(sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], tmp_path: Path) -> None:
    (tmp_path / "root" / "clinical").mkdir(parents=True)
    write_sheet(sheet).rename(tmp_path / "root" / "clinical" / "HCC-TACE-Seg_clinical_data-V2.xlsx")
    assert len(load_clinical(tmp_path / "root")) == 12
    with pytest.raises(CollectionNotFoundError, match="hcc-tace download"):
        load_clinical(tmp_path / "elsewhere")


def test_missing_column_is_named(sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path]) -> None:
    with pytest.raises(ClinicalError, match="'AFP_group'"):
        load_clinical(write_sheet(sheet.drop(columns="AFP_group")))


def test_doubled_column_is_refused(sheet: pd.DataFrame, tmp_path: Path) -> None:
    doubled = pd.concat([sheet, sheet[["OS"]].rename(columns={"OS": "os_"})], axis=1)
    doubled.to_csv(tmp_path / "sheet.csv", index=False)
    with pytest.raises(ClinicalError, match="stand twice: 'OS'"):
        read_sheet(tmp_path / "sheet.csv")


def test_defects_raise_together_and_can_be_let_through(
    sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], caplog: pytest.LogCaptureFixture
) -> None:
    sheet.loc[1, "AFP"] = "high"
    sheet.loc[2, "CPS"] = "X"
    path = write_sheet(sheet)
    with pytest.raises(ClinicalError, match=r"(?s)2 defects.*HCC_002.*HCC_003"):
        load_clinical(path)
    table = load_clinical(path, on_problem="warn")
    assert table["afp_ng_ml"].isna().tolist() == [False, True] + [False] * 10
    assert table["child_pugh"].isna().sum() == 1
    assert "HCC_002" in caplog.text


@pytest.mark.parametrize("content", [b"", b"<html>error</html>", b"PK\x03\x04 not really a zip"])
def test_not_a_workbook(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sheet.xlsx"
    path.write_bytes(content)
    with pytest.raises(ClinicalError, match="not a workbook"):
        read_sheet(path)


def test_entity_bomb_is_refused(
    sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile.xlsx"
    with zipfile.ZipFile(write_sheet(sheet)) as source, zipfile.ZipFile(hostile, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "xl/workbook.xml":
                data = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]>' + data
            target.writestr(name, data)
    with pytest.raises(ClinicalError, match="document type"):
        read_sheet(hostile)


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/a.xml", "w") as handle:
        for _ in range(260):
            handle.write(bytes(2**20))
    with pytest.raises(ClinicalError, match="refused"):
        read_sheet(path)
