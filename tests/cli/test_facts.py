"""The verbs that need no data: info, list, cite, cache."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import main


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--patient", "HCC_021", "--json"]) == 0
    series = json.loads(capsys.readouterr().out)["series"]
    assert len(series) == 7
    keys = {"patient_id", "study_uid", "series_uid", "modality", "description", "instances", "bytes"}
    assert all(keys <= set(row) for row in series)
    assert {row["patient_id"] for row in series} == {"HCC_021"}
    assert len({row["study_uid"] for row in series}) == 3


def test_list_as_csv_with_and_without_bamf(capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for extra in ([], ["--with-bamf"]):
        assert main(["list", "--format", "csv", *extra]) == 0
        counts.append(len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))))
    assert counts == [677, 1020]


def test_list_of_a_folder_without_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(tmp_path)]) == 2
    assert "series.csv" in capsys.readouterr().err


def test_info_and_cite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "CC BY 4.0" in text
    assert "621" in text
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["idc"]["series"] == 677
    assert main(["cite", "--format", "bibtex"]) == 0
    entries = capsys.readouterr().out
    assert entries.count("doi = {") == 4
    assert entries.count("{") == entries.count("}")


def test_cache_is_cleared_and_data_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    (root / ".hcc-tace").mkdir(parents=True)
    (root / ".hcc-tace" / "index.parquet").write_bytes(b"12345")
    (root / "image.dcm").write_bytes(b"data")
    assert main(["cache", str(root), "--json"]) == 0
    assert [folder["bytes"] for folder in json.loads(capsys.readouterr().out)["folders"]] == [5]
    assert main(["cache", str(root), "--clear"]) == 0
    assert not (root / ".hcc-tace").exists()
    assert (root / "image.dcm").exists()


def test_clearing_caches_deletes_caches_by_name_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    root, shared = tmp_path / "root", tmp_path / "cache"
    own = root / ".hcc-tace"
    digest = "0123456789abcdef"
    caches = [
        own / "index.parquet",
        own / f".{digest[:12]}.part.parquet",
        own / "store" / digest / "HCC_001-x" / "image.npy",
        own / "store" / digest / "hf" / "train-0.arrow",
        own / "hf" / "generator" / "default-1" / "0.arrow",
        shared / f"index-{digest}.parquet",
        shared / f"store-{digest[:12]}" / digest / "case.json",
    ]
    kept = [
        own / "ledger.sqlite",
        own / "broken-0.sqlite",
        own / "stage" / "run" / "1.2" / "a.dcm",
        own / "records" / "HCC_001.json",
        own / "parameters.json",
        own / "replaced" / "HCC_001" / "0-x.dcm",
        own / "store" / "notes.txt",
        own / "index.parquet.bak",
        shared / "thesis.txt",
        shared / "index-mine.parquet",
        shared / "store-of-photographs" / "a.jpg",
        root / "HCC_001" / "image.dcm",
    ]
    for path in (*caches, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    assert main(["cache", str(root), "--clear", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(folder["bytes"] for folder in document["folders"]) == 5 * len(caches)
    assert [path for path in caches if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_a_store_that_is_a_link_keeps_its_target_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "big" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "big" / "mine.txt").write_text("no cache")
    (tmp_path / "root" / ".hcc-tace").mkdir(parents=True)
    (tmp_path / "root" / ".hcc-tace" / "store").symlink_to(tmp_path / "big", target_is_directory=True)
    assert main(["cache", str(tmp_path / "root"), "--clear"]) == 0
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["mine.txt"]


def test_info_of_a_folder(twin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(twin), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((twin / "series.csv").read_text(encoding="utf-8").splitlines()))
    assert found["patients"] == len({row["patient_id"] for row in rows})
    assert found["studies"] == len({row["study_uid"] for row in rows})
    assert found["series"] == {kind: sum(row["modality"] == kind for row in rows) for kind in ("CT", "SEG")}
    assert found["instances"] == sum(int(row["instances"]) for row in rows)
    assert found["bytes"] == sum(int(row["bytes"]) for row in rows)
    assert found["readers"] == sorted(path.name for path in (twin / "annotations").iterdir())
    assert main(["info", str(twin)]) == 0
    assert f"{found['patients']} patients, " in capsys.readouterr().out
    assert main(["info", str(twin / "nowhere")]) == 3
    assert main(["info", str(twin), "--drift"]) == 2
