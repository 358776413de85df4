"""A headless browser that cannot leave the machine, and a report to look at."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.sample import read_case
from hcc_tace_data.report import ReportSummary, write_report
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.volumes.registration import Registration

#: Where pictures for people are kept.
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1280,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


class Browser:
    """A thin layer over Selenium's driver: screenshots, sizes, and what the page asked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.requests: list[str] = []
        self.errors: list[str] = []

    def open(self, address: str) -> None:
        self.collect()
        self.requests.clear()
        self.errors.clear()
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 60) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.1).until(lambda driver: driver.execute_script(f"return !!({condition})"))

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def choose(self, selector: str, value: str) -> None:
        self.run(
            "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
            "box.dispatchEvent(new Event('change', {bubbles: true})); box.dispatchEvent(new Event('input'))",
            selector,
            value,
        )

    def size(self, width: int, height: int, *, phone: bool = False, density: float = 1) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": density, "mobile": phone},
        )

    def dress(self, scheme: str) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )

    def shot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        return path

    def collect(self) -> None:
        """Read what the browser logged since the last time."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.errors += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def assert_quiet(self) -> None:
        """No error on the console, and no request that leaves the machine."""
        deadline = time.monotonic() + 60
        self.collect()
        while not self.requests and time.monotonic() < deadline:  # the browser writes its log when it has time
            time.sleep(0.1)
            self.collect()
        assert self.errors == []
        assert self.requests, "the log of requests is empty: nothing was watched"
        left = [
            url
            for url in self.requests
            # chrome: pages of the browser itself, from before the first page of ours
            if urlsplit(url).scheme not in {"file", "data", "blob", "chrome"} and urlsplit(url).hostname != "127.0.0.1"
        ]
        assert left == []


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Headless Chromium with an empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: 'apt-get install chromium chromium-driver' (Debian) installs one")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    instance = webdriver.Chrome(options=options, service=Service(driver))
    yield Browser(instance)
    instance.quit()


@dataclass(frozen=True)
class Made:
    """A report and what it was made from."""

    summary: ReportSummary
    predictions: Path
    shifted: str
    scored: str


def write_prediction(path: Path, label: Any, affine: Any) -> None:
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(label.transpose(2, 1, 0), lps_to_ras @ affine[:, [2, 1, 0, 3]]), path)


@pytest.fixture(scope="session")
def predicted(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions for two patients: one moved by a pixel, one on another grid; and one scored without a file."""
    folder = tmp_path_factory.mktemp("predictions")
    names = ["HCC_003", "HCC_017"]
    cases, _ = find_cases(open_collection(twin), names)
    for case in cases:
        arrays = read_case(case, load_catalog().classes("standard"))
        affine = arrays.affine.copy()
        if case.patient_id == "HCC_017":
            affine[:3, 3] += 3
        write_prediction(folder / f"{case.patient_id}.nii.gz", np.roll(arrays.label, 1, axis=2), affine)
    scored = {"patient_id": "HCC_012", "series_uid": "", "labels": {"liver": {"dice": 0.91}, "tumour": {"dice": 0.42}}}
    atomic_write_text(folder / "evaluation.json", json.dumps({"cases": [scored]}))
    return folder


@pytest.fixture(scope="session")
def made(twin: Path, predicted: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The report of the twin of the patients with quirks."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    summary = write_report(twin, path, predictions=predicted, workers=1)
    return Made(summary=summary, predictions=predicted, shifted="HCC_003", scored="HCC_012")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the viewer's registrations find nothing plausible; the list counts the volumes of each call."""
    calls: list[int] = []

    def register(*volumes: object) -> Registration:
        calls.append(len(volumes))
        return Registration(
            matrix=np.eye(4), engine="none", similarity_before=1.2, similarity_after=1.1, plausible=False,
            reason="it turns by 90 degrees",
        )  # fmt: skip

    monkeypatch.setattr("hcc_tace_data.report.volumes.register", register)
    return calls
