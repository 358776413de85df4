"""`hcc-tace report` and `hcc-tace view` as a user calls them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hcc_tace_data.cli.main import main


def test_report_of_one_patient(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "report.html"
    words = ["report", str(twin), "--out", str(out), "--patient", "HCC_012", "--slices", "2", "--depth", "index"]
    assert main([*words, "--workers", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["patients"], document["pictures"]) == (12, 2)
    assert document["bytes"] == out.stat().st_size
    html = out.read_text(encoding="utf-8")
    assert html.count("<img ") == 2
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_report_says_what_is_wrong(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 3
    assert main(["report", str(twin), "-o", str(tmp_path)]) == 2
    assert main(["report", str(twin), "-o", str(tmp_path / "a.html"), "--patient", "HCC_999"]) == 2
    assert main(["report", str(twin), "--slices", "0"]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "HCC_999" in capsys.readouterr().err


def test_view_says_what_is_wrong(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", "HCC_999", str(twin), "--no-browser"]) == 2
    assert main(["view", "HCC_001", str(tmp_path / "nowhere"), "--no-browser"]) == 3
    assert "HCC_999" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a single process")
def test_view_serves_until_interrupted(twin: Path) -> None:
    words = [sys.executable, "-m", "hcc_tace_data", "view", "HCC_012", str(twin), "--no-browser", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.rstrip().endswith("}") or text.count("{") != text.count("}"):
                line = process.stdout.readline()
                assert line, "the server ended before it said where it is"
                text += line
            address = urlsplit(json.loads(text)["url"])
            assert address.hostname == "127.0.0.1"
            connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
            connection.request("GET", address.path)
            assert b"niivue" in connection.getresponse().read()
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
