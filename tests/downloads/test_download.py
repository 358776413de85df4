"""Downloads from servers that behave: the real s5cmd on a real S3 server, the real tcia_utils on an NBIA server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hcc_tace_data
from hcc_tace_data.cli.main import main
from hcc_tace_data.downloads import RetryPolicy, ensure, make_plan
from hcc_tace_data.errors import CollectionNotFoundError, IncompleteDownloadError, PatientNotFoundError, UsageError
from hcc_tace_data.integrity.ledger import ledger_path, read_ledger, read_series

Check = Callable[..., int]


def _run(root: Path, phantom: Path, url: str, *words: str) -> int:
    return main(["download", str(root), "--table", str(phantom / "series.csv"), "--endpoint", url, "--yes", *words])


def test_from_the_object_store(
    tmp_path: Path, phantom: Path, s3: Any, intact: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a folder of 'odd' \"name\""
    assert _run(root, phantom, s3.url) == 0
    said = capsys.readouterr()
    assert "CC BY 4.0" in said.err
    assert "10.7937/TCIA.5FNA-0924" in said.err
    assert intact(root, whole=True) == len(read_ledger(root))
    assert {record.state for record in read_series(root).values()} == {"whole"}
    assert {entry.source for entry in read_ledger(root).values()} == {"idc"}
    assert main(["verify", str(root), "--deep"]) == 0
    # again: nothing is fetched, nothing is shown twice
    s3.seen.clear()
    assert _run(root, phantom, s3.url) == 0
    assert not s3.seen
    assert "CC BY" not in capsys.readouterr().err


def test_bare_objects_are_asked_for_once(tmp_path: Path, phantom: Path, s3: Any) -> None:
    assert _run(tmp_path / "r", phantom, s3.url, "--quiet") == 0
    objects = {key: count for key, count in s3.seen.items() if key.endswith(".dcm")}
    assert set(objects.values()) == {1}


def test_from_nbia(tmp_path: Path, phantom: Path, nbia: Any, intact: Check, quick: RetryPolicy) -> None:
    seen: list[int] = []
    report = hcc_tace_data.download(
        tmp_path / "r",
        source="nbia",
        table=phantom / "series.csv",
        retries=quick,
        progress=lambda size, total: seen.append(size),
    )
    assert report.ok
    assert intact(tmp_path / "r", whole=True) == report.instances
    assert sum(seen) == report.bytes
    assert {entry.source for entry in read_ledger(tmp_path / "r").values()} == {"nbia"}


@pytest.mark.parametrize("form", ["", "/", "/nbia-api", "/nbia-api/services", "/nbia-api/services/v4/"])
def test_the_nbia_address_with_or_without_its_path(form: str, nbia: Any) -> None:
    from hcc_tace_data.downloads.nbia import NbiaClient

    uid = next(iter(nbia.files))
    assert NbiaClient(nbia.url + form).sop_uids(uid) == {path.stem for path in nbia.files[uid]}


def test_the_tcia_client_of_the_user_is_left_alone(nbia: Any) -> None:
    import logging

    from hcc_tace_data.downloads.nbia import NbiaClient

    handlers = list(logging.getLogger().handlers)
    client = NbiaClient()
    assert client.address.startswith(nbia.url)
    assert logging.getLogger().handlers == handlers
    from tcia_utils import nbia as theirs

    assert "cancerimagingarchive" in theirs.setApiUrl("getImage")
    assert theirs.requests.__name__ == "requests"


def test_the_server_speaks_to_the_real_client(nbia: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tcia_utils import nbia as theirs

    monkeypatch.setattr(theirs, "setApiUrl", lambda endpoint, api_url="nbia": f"{nbia.url}/nbia-api/services/v4/")
    uid = next(iter(nbia.files))
    theirs.downloadSeries([uid], path=str(tmp_path), hash="y", as_zip=True, input_type="list")
    assert (tmp_path / f"{uid}.zip").read_bytes()[:2] == b"PK"
    assert theirs.getSeries(seriesUid="1.2.3", collection="x") is not None
    assert theirs.getSopInstanceUids("1.2.3") is None


def test_a_server_that_knows_the_other_endpoint_alone(
    tmp_path: Path, phantom: Path, nbia: Any, intact: Check, quick: RetryPolicy
) -> None:
    nbia.md5_endpoint_only = True
    hcc_tace_data.download(tmp_path, source="nbia", table=phantom / "series.csv", retries=quick)
    intact(tmp_path, whole=True)


def test_choosing(tmp_path: Path, phantom: Path, s3: Any, rows: list[dict[str, str]]) -> None:
    assert _run(tmp_path / "seg", phantom, s3.url, "--modality", "seg", "--quiet") == 0
    assert {path.parts[-2][:3] for path in (tmp_path / "seg").rglob("*.dcm")} == {"SEG"}
    assert _run(tmp_path / "seg", phantom, s3.url, "--modality", "MR") == 2
    assert _run(tmp_path / "seg", phantom, s3.url, "--patients", "HCC_999") == 2
    assert not (tmp_path / "none").exists()
    with pytest.raises(PatientNotFoundError):
        hcc_tace_data.download(tmp_path / "none", patients=["HCC_999"])
    with pytest.raises(UsageError, match="idc"):
        hcc_tace_data.download(tmp_path / "none", source="nbia", with_bamf=True)
    assert not (tmp_path / "none").exists()


def test_a_dry_run_of_the_real_collection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "not" / "made"
    assert main(["download", str(root), "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["series"], document["instances"], document["bytes"]) == (677, 51968, 28570849894)
    assert document["source"] == "idc"
    assert document["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert main(["download", str(root), "--dry-run", "--json", "--with-bamf"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["series"] == 677 + 343
    assert round(document["bytes"] / 1e9, 2) == 29.76
    assert main(["download", str(root), "--dry-run", "--rate", "10"]) == 0
    assert "at 10 MB/s it takes 48 min" in capsys.readouterr().out
    assert not (tmp_path / "not").exists()


def test_json_of_a_run(tmp_path: Path, phantom: Path, s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path, phantom, s3.url, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["instances"] == len(list(tmp_path.rglob("*.dcm")))
    assert document["failed"] == []


def test_what_came_by_other_means_is_adopted(
    tmp_path: Path, phantom: Path, s3: Any, rows: list[dict[str, str]]
) -> None:
    for number, path in enumerate(sorted(phantom.glob("HCC_*/*/*/*.dcm"))):  # one flat folder, other names
        shutil.copy(path, tmp_path / f"IM{number}.dcm")
    shutil.copy(phantom / "series.csv", tmp_path)
    assert main(["verify", str(tmp_path), "--adopt", "--quiet"]) == 0
    assert _run(tmp_path, phantom, s3.url, "--quiet") == 0
    assert not s3.seen
    # one file goes missing: it alone is fetched
    (tmp_path / "IM3.dcm").unlink()
    assert _run(tmp_path, phantom, s3.url, "--quiet") == 0
    assert sum(count for key, count in s3.seen.items() if key.endswith(".dcm")) == 1
    assert main(["verify", str(tmp_path), "--deep", "--quiet"]) == 0


def test_a_ledger_of_the_first_version_is_taken_over(tmp_path: Path, phantom: Path, s3: Any) -> None:
    import sqlite3

    root = Path(shutil.copytree(phantom, tmp_path / "r"))
    assert main(["verify", str(root), "--adopt", "--quiet"]) == 0
    entries = read_ledger(root)
    ledger_path(root).unlink()
    with sqlite3.connect(ledger_path(root)) as old:
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "CREATE TABLE files (path TEXT PRIMARY KEY, sop_uid TEXT NOT NULL, series_uid TEXT NOT NULL, "
            "size INTEGER NOT NULL, md5 TEXT NOT NULL) WITHOUT ROWID"
        )
        rows = [(e.path, e.sop_uid, e.series_uid, e.size, e.md5) for e in entries.values()]
        old.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", rows)
    old.close()
    assert read_ledger(root).keys() == entries.keys()
    assert _run(root, phantom, s3.url, "--quiet") == 0
    assert not s3.seen
    assert read_ledger(root).keys() == entries.keys()


def test_loading_fetches_first(
    tmp_path: Path, phantom: Path, s3: Any, monkeypatch: pytest.MonkeyPatch, intact: Check
) -> None:
    root = tmp_path / "r"
    root.mkdir()
    monkeypatch.setenv("HCC_TACE_S3_ENDPOINT", s3.url)
    with pytest.raises(CollectionNotFoundError, match="hcc-tace download"):
        hcc_tace_data.load_hcc_tace(root)
    # a download of this table that was ended early
    hcc_tace_data.download(root, table=phantom / "series.csv", modality="SEG")
    data = hcc_tace_data.load_hcc_tace(root, download=True)
    assert len(data) == 1
    intact(root, whole=True)
    # a phantom is taken as it is
    assert ensure(phantom) == phantom
    assert not ledger_path(phantom).exists()


def test_the_clinical_sheet(
    tmp_path: Path, phantom: Path, s3: Any, monkeypatch: pytest.MonkeyPatch, nbia: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sheet = next((phantom / "clinical").iterdir())
    body = sheet.read_bytes()
    monkeypatch.setattr(nbia, "answer", lambda request: nbia.send(request, 200, body))
    monkeypatch.setenv("HCC_TACE_SHEET_URL", f"{nbia.url}/sheet.xlsx")
    assert _run(tmp_path, phantom, s3.url, "--quiet") == 0
    assert (tmp_path / "clinical" / sheet.name).read_bytes() == body
    assert "SHA-256" in caplog.text  # another digest: a warning, not an error
    shutil.rmtree(tmp_path / "clinical")
    body = b"<html>moved</html>"
    assert _run(tmp_path, phantom, s3.url, "--quiet", "--retries", "1") == 4
    assert not (tmp_path / "clinical").exists()
    assert _run(tmp_path, phantom, s3.url, "--quiet", "--no-clinical") == 0


def test_drift(
    tmp_path: Path, phantom: Path, s3: Any, nbia: Any, rows: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    text = (phantom / "series.csv").read_text()
    table.write_text(text)
    words = ["info", "--drift", "--json", "--table", str(table)]
    assert main([*words, "--endpoint", s3.url]) == 0
    assert main([*words, "--source", "nbia"]) == 0
    capsys.readouterr()
    one, other = rows[0], rows[1]
    changed = text.replace(f",{one['instances']},{one['bytes']},", f",{int(one['instances']) + 1},{one['bytes']},", 1)
    table.write_text(changed.replace(other["series_uid"], "1.2.3"))
    assert main([*words, "--endpoint", s3.url]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {(d["kind"], d["series_uid"]) for d in document["differences"]} == {
        ("changed", one["series_uid"]),
        ("gone", "1.2.3"),
    }
    assert main([*words, "--source", "nbia"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {(d["kind"], d["series_uid"]) for d in document["differences"]} == {
        ("changed", one["series_uid"]),
        ("gone", "1.2.3"),
        ("new", other["series_uid"]),
    }
    assert main([*words, "--endpoint", "http://127.0.0.1:9", "--retries", "1"]) == 4


def test_a_table_that_would_escape(tmp_path: Path, phantom: Path) -> None:
    text = (phantom / "series.csv").read_text()
    for bad in (",../../x,", ",CT/..,"):
        table = tmp_path / "t.csv"
        table.write_text(text.replace(",CT,", bad, 1))
        assert main(["download", str(tmp_path / "r"), "--table", str(table), "--yes"]) == 2
    assert not (tmp_path / "r").exists()


def test_the_plan_counts_what_is_here(tmp_path: Path, phantom: Path, s3: Any) -> None:
    hcc_tace_data.download(tmp_path, table=phantom / "series.csv", endpoint=s3.url, modality="SEG")
    plan = make_plan(tmp_path)
    assert len(plan.here) == 1
    assert len(plan.wanted) == len((phantom / "series.csv").read_text().splitlines()) - 2
    next(tmp_path.rglob("SEG*/*.dcm")).unlink()
    assert not make_plan(tmp_path).here


def test_incomplete_is_an_error_with_a_report(tmp_path: Path, phantom: Path, s3: Any, quick: RetryPolicy) -> None:
    s3.fault = lambda key, nth: ("status", 403)
    with pytest.raises(IncompleteDownloadError) as caught:
        hcc_tace_data.download(tmp_path, table=phantom / "series.csv", endpoint=s3.url, retries=quick)
    assert len(caught.value.report.failed) == len((phantom / "series.csv").read_text().splitlines()) - 1
