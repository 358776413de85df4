"""The whole baseline on a tiny twin: interrupted, continued, and blind to the test set."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.baseline.data import load_cohort, part_of
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.reproduce import Tell, reproduce
from hcc_tace_data.baseline.scoring import read_prediction
from hcc_tace_data.baseline.trivial import TrivialPredictors
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.facts.splits import patients_of


def _config() -> TrainConfig:
    keys = ["model.widths=[8,16]", "batch_size=8", "optimizer.lr=0.01", "ema=null", "augment=false"]
    return load_config("modern", [*keys, "input.phases=[annotated]"])


class _Stop(Exception):
    pass


def test_broken_off_and_continued(small_twin: Path, tmp_path: Path) -> None:
    collection = open_collection(small_twin)

    def stop(name: str, done: int, total: int) -> None:
        if name == "fold 1, tumour" and done == 5:
            raise _Stop

    request = ReproduceRequest(config=_config(), folds=(0, 1), steps=25)
    with pytest.raises(_Stop):
        reproduce(collection, tmp_path, request, tell=Tell(bar=stop))
    assert not (tmp_path / "report.html").exists()
    first = (tmp_path / "fold0" / "tumour" / "last.safetensors").stat().st_mtime_ns
    plan = json.loads((tmp_path / "plan.json").read_text())
    with pytest.raises(BaselineError, match="another steps"):
        reproduce(collection, tmp_path, replace(request, steps=26))
    report = reproduce(collection, tmp_path, request)
    assert (tmp_path / "fold0" / "tumour" / "last.safetensors").stat().st_mtime_ns == first
    assert json.loads((tmp_path / "plan.json").read_text()) == plan
    # a finished run is reported again without training
    assert reproduce(collection, tmp_path, request)["evaluation"] == report["evaluation"]

    test = set(patients_of("test"))
    assert set(report["data"]["test"]) == test & set(collection)
    for path in tmp_path.glob("**/run.json"):
        record = json.loads(path.read_text())
        assert not test & {*record["train_patients"], *record["validation_patients"]}
    for row in report["folds"]:
        for stage in ("liver", "tumour"):
            assert set(row[stage]["train_patients"]) <= set(row["train"])
            assert not set(row[stage]["train_patients"]) & set(row["validation"])
    validated = {patient for row in report["folds"] for patient in row["validation"]}
    assert {case["patient_id"] for case in report["out_of_fold"]["cases"]} == validated
    assert report["out_of_fold"]["summary"]["patients"] == len(validated) == 2
    written = json.loads((tmp_path / "predictions" / "out-of-fold" / "evaluation.json").read_text())
    assert written["summary"] == report["out_of_fold"]["summary"]
    # what knows next to nothing learns from the same patients as the networks of the fold
    cohort = load_cohort(collection)
    for fold in (0, 1):
        part = part_of(cohort, fold)
        fitted = TrivialPredictors.fit(part.train)
        for case in part.validation:
            (row,) = [row for row in report["out_of_fold"]["cases"] if row["patient_id"] == case.patient_id]
            found = read_prediction(tmp_path / "predictions" / "out-of-fold" / f"{case.patient_id}.nii.gz", case)
            assert row["trivial"] == fitted.score(np.asarray(case.image), found > 0, np.asarray(case.label))
    page = (tmp_path / "report.html").read_text()
    for text in (
        "out of fold, trivial: HU threshold",
        "Synthetic twin",
        "out of fold, 2 development patients",
        "SmoothSegNet",
        "0.552",
        "shuffled labels",
        "HU threshold",
        "data:image/png;base64",
    ):
        assert text in page
    assert json.loads((tmp_path / "report.json").read_text())["published"][0]["dice"] == "not published"
    assert report["synthetic"]
    assert report["control"]["dice"]["tumour"] <= 1


def test_the_estimate_trains_nothing(small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["baseline", "reproduce", str(small_twin), "--out", str(tmp_path / "run"), "--preset", "paper"]
    assert main([*words, "--budget", "1", "--estimate", "--json", "--quiet"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["config"]["model"]["widths"] != [64, 128, 256, 512, 1024]
    assert any("widths" in change for change in plan["changes"])
    assert plan["trainings"] == 12
    assert plan["estimate"]["memory_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_a_folder_without_test_patients_is_refused(small_twin: Path, tmp_path: Path) -> None:
    collection = open_collection(small_twin)
    empty = tmp_path / "only-training"
    empty.mkdir()
    for fold in range(5):
        patient = patients_of("validation", fold)[0]
        shutil.copytree(small_twin / patient, empty / patient)
    assert set(open_collection(empty)) < set(collection)
    with pytest.raises(BaselineError, match="belongs to the test set"):
        reproduce(open_collection(empty), tmp_path / "run", ReproduceRequest(config=_config(), folds=(0,), steps=1))
