"""Servers on loopback that hold a phantom: an S3 server behind a proxy that misbehaves, and one that speaks NBIA."""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import json
import os
import threading
import time
import zipfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from hcc_tace_data.downloads import RetryPolicy
from hcc_tace_data.integrity.ledger import md5_of, read_ledger

PATIENTS = ["HCC_002"]


def _image(path: Path) -> dict[str, str]:
    """Patient, study and series of a phantom's file, by its place."""
    patient, study, series = path.parts[-4:-1]
    return {"patient": patient, "study": study, "series": series.partition("_")[2]}


@pytest.fixture(scope="session")
def phantom(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("source") / "p", patients=PATIENTS)


@pytest.fixture(scope="session")
def rows(phantom: Path) -> list[dict[str, str]]:
    """The phantom's series table."""
    with open(phantom / "series.csv", newline="") as handle:
        return list(csv.DictReader(handle))


class _Server(ABC):
    """A threaded HTTP server on a free port of loopback."""

    def __init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                try:
                    outer.answer(self)
                except OSError:
                    self.close_connection = True

            do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.closing = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @abstractmethod
    def answer(self, request: Any) -> None:
        """Answer a request."""

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def send(request: Any, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


Fault = Callable[[str, int], "str | tuple[str, Any] | None"]


class Proxy(_Server):
    """Forwards to the S3 server, unless `fault(key, nth request for it)` names something else to do.

    Faults: ("status", 500), "hang", "reset" (half the body, then nothing), "flip" (a byte changed, sizes kept),
    "html" (an error page with status 200), ("body", bytes).
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.fault: Fault = lambda key, nth: None
        self.delay_s = 0.0
        self.seen: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, str, str | None], tuple[http.client.HTTPResponse, bytes]] = {}
        super().__init__()

    def _ask(self, request: Any) -> tuple[http.client.HTTPResponse, bytes]:
        """Return the upstream's answer, which stays the same: it is asked once for each thing."""
        asked = (request.command, request.path, request.headers.get("Range"))
        if asked not in self._answers:
            connection = http.client.HTTPConnection(*self.upstream, timeout=30)
            connection.request(request.command, request.path, headers=dict(request.headers.items()))
            answer = connection.getresponse()
            self._answers[asked] = answer, answer.read()
            connection.close()
        return self._answers[asked]

    def clear(self) -> None:
        self.fault = lambda key, nth: None
        self.delay_s = 0.0
        self.seen.clear()
        self.served.clear()

    def answer(self, request: Any) -> None:
        key = (
            unquote(urlsplit(request.path).path) if "list-type" not in request.path else "list " + unquote(request.path)
        )
        with self._lock:
            self.seen[key] += request.command == "GET"
            nth = self.seen[key]
        time.sleep(self.delay_s)
        fault = self.fault(key, nth)
        what, value = fault if isinstance(fault, tuple) else (fault, None)
        if what == "hang":
            self.closing.wait(30)
            request.close_connection = True
            return
        if what == "status":
            self.send(request, value, b"<Error><Code>Planted</Code></Error>")
            return
        if what == "html":
            self.send(request, 200, b"<!DOCTYPE html><html>Service down</html>", {"Content-Type": "text/html"})
            return
        answer, body = self._ask(request)
        if what == "flip":
            body = body[:-100] + bytes([body[-100] ^ 1]) + body[-99:]
        if what == "body":
            body = value(body)
        request.send_response(answer.status)
        for name, text in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, text)
        request.send_header(
            "Content-Length",
            str(answer.headers.get("Content-Length", len(body)) if request.command == "HEAD" else len(body)),
        )
        request.end_headers()
        if what == "reset":
            request.wfile.write(body[: len(body) // 2])
            request.wfile.flush()
            request.connection.close()
            request.close_connection = True
            return
        if request.command != "HEAD":
            request.wfile.write(body)
            with self._lock:
                self.served[key] += 1


@pytest.fixture(scope="session")
def _moto(phantom: Path, rows: list[dict[str, str]]) -> Iterator[tuple[str, int]]:
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    client.create_bucket(Bucket=rows[0]["bucket"])
    for row in rows:
        for path in (
            phantom / row["patient_id"] / row["study_uid"] / f"{row['modality']}_{row['series_uid']}"
        ).iterdir():
            key = f"{row['prefix']}/{path.name}"
            client.put_object(Bucket=row["bucket"], Key=key, Body=path.read_bytes(), ACL="public-read")
    yield host, port
    server.stop()


@pytest.fixture(scope="session")
def _proxy(_moto: tuple[str, int]) -> Iterator[Proxy]:
    proxy = Proxy(_moto)
    yield proxy
    proxy.stop()


@pytest.fixture
def s3(_proxy: Proxy) -> Proxy:
    """The S3 server, well-behaved until told otherwise."""
    _proxy.clear()
    return _proxy


class Nbia(_Server):
    """Speaks the NBIA protocol over a phantom; `spoil(series_uid, nth)` may return other bytes or a status."""

    def __init__(self, phantom: Path) -> None:
        self.files: dict[str, list[Path]] = {}
        for path in sorted(phantom.glob("HCC_*/*/*/*.dcm")):
            self.files.setdefault(_image(path)["series"], []).append(path)
        self.spoil: Callable[[str, int], Any] = lambda uid, nth: None
        self.seen: Counter[str] = Counter()
        self.md5_endpoint_only = False
        super().__init__()

    def clear(self) -> None:
        self.spoil = lambda uid, nth: None
        self.seen.clear()
        self.md5_endpoint_only = False

    _KNOWN = {
        "getSeries": {"Collection", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"},
        "getSOPInstanceUIDs": {"SeriesInstanceUID"},
        "getSeriesSize": {"SeriesInstanceUID"},
        "getImage": {"SeriesInstanceUID", "NewFileNames", "IncludeMD5"},
        "getImageWithMD5Hash": {"SeriesInstanceUID"},
    }

    def answer(self, request: Any) -> None:
        parts = urlsplit(request.path)
        base, _, endpoint = parts.path.rpartition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if base != "/nbia-api/services/v4" or endpoint not in self._KNOWN:
            return self.send(request, 404, b"no such endpoint")
        unknown = set(query) - self._KNOWN[endpoint]
        if unknown or (self.md5_endpoint_only and endpoint == "getImage"):
            return self.send(request, 400, f"unknown parameter {sorted(unknown)}".encode())
        uid = query.get("SeriesInstanceUID", "")
        if endpoint == "getSeries":
            answer = [
                {"SeriesInstanceUID": one, "PatientID": _image(files[0])["patient"], "ImageCount": len(files)}
                for one, files in self.files.items()
            ]
            return self._json(request, answer)
        files = self.files.get(uid, [])
        if endpoint == "getSOPInstanceUIDs":
            return self._json(request, [{"SOPInstanceUID": path.stem} for path in files])
        if endpoint == "getSeriesSize":
            size = sum(path.stat().st_size for path in files)
            return self._json(request, [{"TotalSizeInBytes": size, "ObjectCount": len(files)}] if files else [])
        self.seen[uid] += 1
        spoilt = self.spoil(uid, self.seen[uid])
        if isinstance(spoilt, int):
            return self.send(request, spoilt, b"planted")
        if spoilt == "hang":
            self.closing.wait(30)
            request.close_connection = True
            return None
        if not files:
            return self.send(request, 200, b"")
        with_md5 = query.get("IncludeMD5") == "Yes" or endpoint == "getImageWithMD5Hash"
        body = spoilt if isinstance(spoilt, bytes) else self.zip(uid, with_md5=with_md5)
        if spoilt == "reset":
            request.send_response(200)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body[: len(body) // 2])
            request.connection.close()
            request.close_connection = True
            return None
        return self.send(request, 200, body, {"Content-Type": "application/zip"})

    def _json(self, request: Any, rows: list[Any]) -> None:
        self.send(request, 200, json.dumps(rows).encode() if rows else b"")

    def zip(
        self,
        uid: str,
        *,
        with_md5: bool = True,
        change: Callable[[list[tuple[Any, bytes]]], None] | None = None,
        digests: Callable[[str, bytes], str] | None = None,
    ) -> bytes:
        """Return the zip of a series; `change` may edit its list of (name or ZipInfo, content) in place."""
        members: list[tuple[Any, bytes]] = [
            (f"1-{number:03d}.dcm", path.read_bytes()) for number, path in enumerate(self.files[uid], start=1)
        ]
        made = digests or (lambda name, data: hashlib.md5(data).hexdigest())
        lines = ["Filename,MD5Hash", *(f"{name},{made(name, data)}" for name, data in members)]
        if change is not None:
            change(members)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("LICENSE", "CC BY 4.0")
            for name, data in members:
                archive.writestr(name, data)
            if with_md5:
                archive.writestr("md5hashes.csv", "\n".join(lines) + "\n")
        return buffer.getvalue()


@pytest.fixture(scope="session")
def _nbia(phantom: Path) -> Iterator[Nbia]:
    server = Nbia(phantom)
    yield server
    server.stop()


@pytest.fixture
def nbia(_nbia: Nbia, monkeypatch: pytest.MonkeyPatch) -> Nbia:
    """The NBIA server, well-behaved until told otherwise, and the one that downloads ask."""
    _nbia.clear()
    monkeypatch.setenv("HCC_TACE_NBIA_URL", f"{_nbia.url}/nbia-api/services/v4")
    return _nbia


@pytest.fixture
def quick() -> RetryPolicy:
    """Three tries, no waiting."""
    return RetryPolicy(attempts=3, sleep=lambda seconds: None)


@pytest.fixture(scope="session")
def intact(phantom: Path) -> Callable[..., int]:
    """Return a check: all under final names is the phantom's, all the ledger claims is there; how many files are."""
    truth = {path.relative_to(phantom).as_posix(): md5_of(path) for path in phantom.glob("HCC_*/*/*/*.dcm")}

    def check(root: Path, *, whole: bool | None = None) -> int:
        here = {
            path.relative_to(root).as_posix(): md5_of(path)
            for path in root.rglob("*")
            if path.is_file() and ".hcc-tace" not in path.parts and path.name != "series.csv"
        }
        wrong = {name for name, md5 in here.items() if truth.get(name) != md5}
        assert not wrong, f"accepted wrongly: {wrong}"
        claimed = {name: entry.md5 for name, entry in read_ledger(root).items()}
        assert claimed.items() <= here.items(), "the ledger claims what is not on disk"
        if whole is not None:
            assert (here == truth) is whole
            assert (claimed == truth) is whole
        if whole:
            assert not list((root / ".hcc-tace").glob("stage/*")), "left in the staging folder"
        return len(here)

    return check


_OUTCOMES: list[tuple[str, str, str, str]] = []


@pytest.fixture
def outcome() -> Callable[..., None]:
    """Record a row of the fault table: the fault, what became of the download, whether anything was lost."""

    def record(fault: str, source: str, result: str, lost: str = "nothing") -> None:
        _OUTCOMES.append((fault, source, result, lost))

    return record


def pytest_sessionfinish() -> None:
    """Write the fault table where ``$HCC_TACE_FAULT_TABLE`` says."""
    place = os.environ.get("HCC_TACE_FAULT_TABLE")
    if not place or not _OUTCOMES:
        return
    head = ("fault", "source", "outcome", "data lost or accepted wrongly")
    table = [head, *sorted(_OUTCOMES)]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    Path(place).write_text("\n".join(lines) + "\n")
