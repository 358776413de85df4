"""`hcc-tace prepare`: whole studies, once, for `load_hcc_tace` with the same options."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcc_tace_data import load_hcc_tace, open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import SegmentationError, UsageError
from hcc_tace_data.loaders import prepare
from hcc_tace_data.loaders.cases import Case, find_cases
from hcc_tace_data.loaders.load import make_parameters, store_folder
from hcc_tace_data.loaders.prepare import estimate_bytes, prepare_cases
from hcc_tace_data.loaders.sample import read_case
from hcc_tace_data.loaders.store import Store


@pytest.fixture(scope="module")
def made(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("prepare") / "t", patients=["HCC_003", "HCC_017"])


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy by links, without its caches."""
    shutil.copytree(made, tmp_path / "t", copy_function=os.link, ignore=shutil.ignore_patterns(".hcc-tace"))
    return tmp_path / "t"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Run the command with --json."""
    capsys.readouterr()
    code = main(["prepare", *words, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def test_what_is_prepared_is_served(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = run(capsys, str(root), "--dry-run", "--margin", "10")
    assert (code, told["studies"], told["stored_before"]) == (0, 2, 0)
    assert not Path(told["store"]).exists()
    code, done = run(capsys, str(root), "--margin", "10")
    assert code == 0
    assert 0 < done["bytes_stored"] <= told["bytes_needed"]
    served = load_hcc_tace(root, margin=10)
    assert [str(source.stored.folder) for source in served.sources] == [case["folder"] for case in done["cases"]]
    for source in served.sources:
        record = json.loads((source.stored.folder / "case.json").read_text())
        paths = {path.name: path for path in (*source.case.paths, source.case.segmentation)}
        assert record["sources"].keys() == paths.keys()
        name, path = next(iter(paths.items()))
        assert record["sources"][name] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["parameters"]["margin_mm"] == 10
        assert record["liver"] is not None
        # the liver and ten mm around it, unless the CT ends before: it cannot begin farther from the edge
        whole = read_case(source.case, served.classes)
        for axis, (first, last) in enumerate(record["liver"]):
            reach = int(np.ceil(10 / record["spacing"][axis]))
            assert first == min(reach, whole.liver[axis][0])
            assert last - first == whole.liver[axis][1] - whole.liver[axis][0]


def test_a_second_run_writes_nothing_and_a_change_writes_anew(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, first = run(capsys, str(root))
    stamps = {path: path.stat().st_mtime_ns for path in Path(first["store"]).rglob("*")}
    code, again = run(capsys, str(root))
    assert (code, again["stored_before"], again["bytes_needed"]) == (0, 2, 0)
    assert {path: path.stat().st_mtime_ns for path in Path(first["store"]).rglob("*")} == stamps
    _, other = run(capsys, str(root), "--labels", "lesion")
    assert other["store"] != first["store"]
    seg = next((root / "HCC_017").glob("*/SEG_*/*.dcm"))
    content = seg.read_bytes()
    seg.unlink()
    seg.write_bytes(content)  # another time of change
    _, changed = run(capsys, str(root))
    assert changed["stored_before"] == 1
    assert {c["folder"] for c in changed["cases"]} != {c["folder"] for c in first["cases"]}


def test_worker_processes_write_the_same(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, one = run(capsys, str(root), "--cache", str(tmp_path / "one"), "--spacing", "5,3,3")
    _, two = run(capsys, str(root), "--cache", str(tmp_path / "two"), "--spacing", "5,3,3", "--workers", "2")
    for a, b in zip(one["cases"], two["cases"], strict=True):
        assert a["spacing"] == pytest.approx([5, 3, 3])
        for name in ("image.npy", "label.npy"):
            assert (Path(a["folder"]) / name).read_bytes() == (Path(b["folder"]) / name).read_bytes()


def test_one_number_is_the_spacing_along_all_axes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, stored = run(capsys, str(root), "--cache", str(tmp_path / "one"), "--spacing", "6")
    assert [case["spacing"] for case in stored["cases"]] == [[6, 6, 6]] * len(stored["cases"])


def test_a_real_registration_is_stored(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the engine itself; how good it is, its own tests say."""
    code, done = run(capsys, str(root), "--patient", "HCC_017", "--phases", "portal_venous,arterial")
    (case,) = done["cases"]
    found = case["registrations"]["arterial"]
    assert found["engine"]
    assert (Path(case["folder"]) / "transforms" / "arterial.tfm").read_text().startswith("#Insight Transform File")
    assert code == (0 if found["plausible"] else 1)
    assert ("arterial" in case["missing"]) == (not found["plausible"])


def test_a_damaged_study_does_not_stop_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seg = next((root / "HCC_003").glob("*/SEG_*/*.dcm"))
    content = seg.read_bytes()
    seg.unlink()
    seg.write_bytes(content[:-900])
    code, done = run(capsys, str(root), "--phases", "annotated")
    assert code == 1
    assert [case["patient_id"] for case in done["cases"]] == ["HCC_017"]
    assert list(done["left_out"]) == ["HCC_003"]

    def fails(case: Case, parameters: object) -> None:
        raise SegmentationError(f"{case.patient_id} shows nothing")

    monkeypatch.setattr(prepare, "build_arrays", fails)
    code, done = run(capsys, str(root), "--phases", "annotated", "--margin", "3")
    assert (code, done["failed"]) == (1, {"HCC_017": "HCC_017 shows nothing"})
    assert not list(Path(done["store"]).glob("*"))


def test_wrong_words(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--phases", "venous"],
        ["--spacing", "1,1"],
        ["--spacing", "a,b,c"],
        ["--margin", "-1"],
        ["--patient", "HCC_099"],
        ["--workers", "1", "--dask", "tcp://127.0.0.1:1"],
        ["--nonsense"],
    ):
        assert main(["prepare", str(root), *words]) == 2, words
    assert main(["prepare", str(tmp_path / "nowhere")]) == 3
    capsys.readouterr()


def test_too_little_space_is_said_before(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000})())
    assert main(["prepare", str(root)]) == 2
    assert "free" in capsys.readouterr().err
    assert not (root / ".hcc-tace" / "store").exists()


def test_an_interrupted_run_leaves_whole_cases(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = make_parameters(phases="annotated")
    store = Store(store_folder(root), parameters)
    cases, _ = find_cases(open_collection(root), ["HCC_003", "HCC_017"], phases=("annotated",))
    seen = []

    def stop(steps: int) -> None:
        seen.append(steps)
        if sum(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_cases(store, cases, done=stop)
    assert [item.name[:7] for item in store.folder.iterdir()] == ["HCC_003"]
    stored, failed = prepare_cases(store, cases)
    assert not failed
    assert all(item is not None for item in stored)
    assert sum(estimate_bytes(case, parameters) for case in cases) == sum(
        np.prod(item.shape) * 3 for item in stored if item is not None
    )


def test_dask_prepares(root: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install '.[dask]'")
    parameters = make_parameters(phases="annotated", margin=5)
    cases, _ = find_cases(open_collection(root), ["HCC_003", "HCC_017"], phases=("annotated",))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    ) as cluster:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        stored, failed = prepare_cases(Store(tmp_path, parameters), cases, dask=cluster.scheduler_address)
    assert not failed
    assert all(item is not None and item.folder.is_dir() for item in stored)


def test_no_scheduler_is_said(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hcc_tace_data.system.parallel._SCHEDULER_S", 1)
    pytest.importorskip("distributed", reason="distributed is not installed: pip install '.[dask]'")
    cases, _ = find_cases(open_collection(root), ["HCC_003"], phases=("annotated",))
    with pytest.raises(UsageError, match="No Dask scheduler"):
        prepare_cases(Store(tmp_path, make_parameters()), cases, dask="tcp://127.0.0.1:9")
