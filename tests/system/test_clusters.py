"""On a Dask cluster of separate processes, one of which is killed half way, results are those of one process."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import UsageError
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.load import make_parameters
from hcc_tace_data.loaders.prepare import prepare_cases
from hcc_tace_data.loaders.store import Store
from hcc_tace_data.measure.tables import measure_lesions
from hcc_tace_data.open import open_collection
from hcc_tace_data.system import parallel
from hcc_tace_data.validators import validate

distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install '.[dask]'")

PATIENTS = ("HCC_003", "HCC_011", "HCC_017", "HCC_041", "HCC_065")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process of its own; one that dies is started again."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as running:
        yield running


@pytest.fixture
def root(twin: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name in PATIENTS:
        shutil.copytree(twin / name, folder / name)
    return folder


class Killer:
    """Kills a worker that is at work, once, when the first result has come."""

    def __init__(self, cluster: Any) -> None:
        self.address = cluster.scheduler_address
        self.killed: list[int] = []

    def __call__(self, *_: object) -> None:
        if self.killed:
            return
        with distributed.Client(self.address, set_as_default=False) as client:
            busy = [worker for worker, keys in client.processing().items() if keys]
            pids = client.run(os.getpid)
            # a worker may have finished all its tasks meanwhile: then any
            self.killed.append(pids[next(iter(busy), next(iter(pids)))])
        os.kill(self.killed[0], signal.SIGKILL)


@pytest.fixture
def killer(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killer]:
    """Kill one of the workers after the first result of :meth:`Runner.ordered`."""
    kill = Killer(cluster)
    take = parallel._result_of

    def taken(future: Any) -> Any:
        result = take(future)
        kill()
        return result

    monkeypatch.setattr(parallel, "_result_of", taken)
    yield kill
    assert kill.killed, "no worker was killed"
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_prepare(root, tmp_path, cluster) -> None:
    parameters = make_parameters(phases="portal_venous")
    cases, _ = find_cases(open_collection(root), PATIENTS, phases=parameters.phases)
    alone, _ = prepare_cases(Store(tmp_path / "alone", parameters), cases)
    assert any(one.registrations for one in alone), "one of them is registered"
    kill = Killer(cluster)
    together, failed = prepare_cases(
        Store(tmp_path / "together", parameters), cases, dask=cluster.scheduler_address, done=lambda n: n and kill()
    )
    assert kill.killed
    assert not failed
    assert all(one is not None for one in together)
    assert digests(tmp_path / "together") == digests(tmp_path / "alone")


def test_measure(root, cluster, killer) -> None:
    alone = measure_lesions(root)
    together = measure_lesions(root, dask=cluster.scheduler_address)
    assert together.to_csv() == alone.to_csv()
    assert together.attrs["left_out"] == alone.attrs["left_out"]


@pytest.mark.parametrize("format", ["nnunet", "nifti"])
def test_export(root, tmp_path, cluster, killer, format, monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")  # the time of the export is in its provenance
    collection = open_collection(root)
    for name, address in (("alone", None), ("together", cluster.scheduler_address)):
        if format == "nifti":
            export_nifti(collection, tmp_path / name, workers=1, dask=address)
        else:
            export_cases(collection, tmp_path / name, format, workers=1, dask=address)
    alone, together = digests(tmp_path / "alone"), digests(tmp_path / "together")
    assert [name for name in alone if name.endswith(".nii.gz")]
    assert together == alone


def test_validate(root, cluster, killer, monkeypatch) -> None:
    monkeypatch.setattr(parallel, "_FEW", 1)  # every job goes to the workers
    ignore = ["HT312", "HT212", "HT7"]  # they take longest
    alone = validate(root, workers=1, ignore=ignore).as_dict()
    shutil.rmtree(root / ".hcc-tace")
    assert validate(root, dask=cluster.scheduler_address, ignore=ignore).as_dict() == alone


def test_workers_keep_nothing_and_read_nothing_kept(root, cluster) -> None:
    """The store is a file of the machine that asked: others get no handle of it."""
    collection = open_collection(root)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        assert client.submit(_has_store, collection["HCC_003"].baseline).result(timeout=60) is False
    assert _has_store(collection["HCC_003"].baseline)


def _has_store(study: Any) -> bool:
    time.sleep(0)
    return study.kept.store is not None


def test_what_a_cluster_cannot_do_is_said(root, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(parallel, "_SCHEDULER_S", 1)
    out = str(tmp_path / "out")
    for words in (["export", "png", out, str(root)], ["export", "nnunet", out, str(root), "--workers", "2"]):
        assert main([*words, "--dask", "tcp://127.0.0.1:1"]) == 2, words
    capsys.readouterr()
    with pytest.raises(UsageError, match="No Dask scheduler"):
        measure_lesions(root, dask="nonsense://nowhere")
