"""Documents of unknown origin: an error of the package that names the file, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcc_tace_data.baseline.config import load_config
from hcc_tace_data.baseline.folds import seen_in_training
from hcc_tace_data.baseline.training_plan_file import _read_plan
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.export.output_folder import ExportRecord, _check_ours, _read_records, write_record
from hcc_tace_data.facts.catalog import Catalog
from hcc_tace_data.report.patients import read_evaluation
from hcc_tace_data.system.documents import parse_json, parse_yaml, read_json_object
from hcc_tace_data.validators.reviewed import read_reviews

DEEP = "[" * 50_000 + "]" * 50_000
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + chr(ord(name) - 1)] * 10)}]\n" for name in "bcdefghi"
)
DOCUMENTS = {
    "deep lists": DEEP.encode(),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "NUL": b"\0\0\0",
    "a list": b"[1, 2]",
    "a text": b'"text"',
    "a number": b"7",
    "empty": b"",
    "cut short": b'{"a": [1, {',
    "a huge number": b'{"a": ' + b"9" * 10_000 + b"}",
}
YAML_ONLY = {
    "aliases of aliases": ALIASES.encode(),
    "an alias of itself": b"a: &a [*a]\n",
    "a tag": b"!!python/object:os.system {}\n",
    "deep by indent": b"".join(b" " * i + b"a:\n" for i in range(2000)),
}


def _export(file: Path) -> Any:
    return _check_ours(file.parent.parent, {"format": "nnunet"})


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "catalogue": ("catalog.yaml", lambda file: Catalog.load(file)),
    "training configuration": ("mine.yaml", load_config),
    "reviewed findings": ("reviewed.yaml", read_reviews),
    "evaluation": ("evaluation.json", read_evaluation),
    "plan of a run": ("plan.json", _read_plan),
    "record of a training": ("fold0/liver/run.json", lambda file: seen_in_training(file.parents[2])),
    "parameters of an export": (".hcc-tace/parameters.json", _export),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", [*DOCUMENTS, *YAML_ONLY])
def test_a_hostile_document_is_refused_by_name(tmp_path: Path, reader: str, what: str) -> None:
    name, read = READERS[reader]
    if what in YAML_ONLY and not name.endswith(".yaml"):
        pytest.skip("not JSON")
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((DOCUMENTS | YAML_ONLY)[what])
    with pytest.raises(HccTaceError, match=file.name) as caught:
        read(file)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("what", DOCUMENTS)
def test_a_damaged_record_of_an_export_is_written_again(tmp_path: Path, what: str) -> None:
    records = tmp_path / ".hcc-tace" / "records"
    records.mkdir(parents=True)
    (records / "HCC_001.json").write_bytes(DOCUMENTS[what])
    assert _read_records(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("files", ["a.nii.gz"]),
        ("files", {"a.nii.gz": "12"}),
        ("files", {"a.nii.gz": None}),
        ("files", None),
        ("sources", [1]),
        ("fold", "1"),
        ("digest", 7),
        ("patient_id", {}),
        ("odd", "x"),
    ],
)
def test_a_record_with_a_field_of_another_type_is_written_again(tmp_path: Path, name: str, value: object) -> None:
    whole = ExportRecord(name="HCC_001", patient_id="HCC_001", digest="d", files={"a.nii.gz": 12})
    write_record(tmp_path, whole)
    assert _read_records(tmp_path) == {"HCC_001": whole}
    file = tmp_path / ".hcc-tace" / "records" / "HCC_001.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    assert _read_records(tmp_path) == {}


def test_an_override_that_nests_too_deep() -> None:
    with pytest.raises(HccTaceError, match="deep"):
        load_config("paper", [f"optimizer.lr={DEEP}"])


def test_aliases_within_reason_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}
    assert parse_json(b'{"a": "\xc3\xbc"}') == {"a": "\xfc"}


def test_a_pipe_in_place_of_a_document_does_not_block(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="regular"):
        read_json_object(tmp_path / "a.json")
