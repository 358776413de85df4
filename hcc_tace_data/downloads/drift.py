"""What a source has now, against the series table."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hcc_tace_data.downloads.nbia import NbiaClient
from hcc_tace_data.downloads.retries import RetryPolicy, is_passing
from hcc_tace_data.downloads.run import idc_endpoint
from hcc_tace_data.downloads.s5cmd import list_prefixes
from hcc_tace_data.downloads.selection import Wanted, make_plan
from hcc_tace_data.errors import DownloadError
from hcc_tace_data.facts.catalog import Catalog, load_catalog
from hcc_tace_data.system.words import count

__all__ = ["Difference", "DriftReport", "find_drift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A series that the source has otherwise than the table: `kind` is "gone", "new" or "changed"."""

    kind: str
    patient_id: str
    series_uid: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """How many series were compared, and what differs."""

    source: str
    series: int
    differences: tuple[Difference, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``hcc-tace info --drift --json``."""
        return {
            "source": self.source,
            "same": not self.differences,
            "series": self.series,
            "differences": [asdict(one) for one in self.differences],
        }


def find_drift(
    *,
    source: str = "idc",
    table: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    with_bamf: bool = False,
    timeout_s: float = 60.0,
    retries: RetryPolicy | None = None,
    catalog: Catalog | None = None,
) -> DriftReport:
    """Ask a source what it has now.

    IDC is asked for every series of the table: what it gained shows only in a later version of its index. NBIA is
    asked for the whole collection.

    Raises
    ------
    DownloadError
        The source does not answer.
    """
    rows = make_plan(Path(), source=source, table=table, with_bamf=with_bamf, ledger=False).wanted
    policy = retries or RetryPolicy()
    facts = load_catalog() if catalog is None else catalog
    if source == "nbia":
        client = NbiaClient(endpoint, timeout_s=timeout_s)
        differences = _against_nbia(rows, client, policy, str(facts.sources["nbia"]["collection"]))
    else:
        differences = _against_idc(rows, idc_endpoint(endpoint, catalog=facts), policy, timeout_s)
    return DriftReport(source=source, series=len(rows), differences=tuple(differences))


def _against_idc(rows: tuple[Wanted, ...], endpoint: str, policy: RetryPolicy, timeout_s: float) -> list[Difference]:
    by_address = {f"s3://{one.bucket}/{one.prefix}": one for one in rows if one.prefix}
    found: dict[str, tuple[int, int]] = {}
    todo = list(by_address)
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(1, policy.attempts + 1):
            lists, errors = list_prefixes(todo, folder=Path(folder), endpoint=endpoint, workers=32, timeout_s=timeout_s)
            found |= {
                address: (len(files), sum(size for size, _ in files.values())) for address, files in lists.items()
            }
            found |= {address: (0, 0) for address, error in errors.items() if "no object found" in error}
            todo = [address for address in todo if address not in found]
            if not todo:
                break
            if attempt == policy.attempts or not all(is_passing(errors[address]) for address in todo):
                raise DownloadError(f"{endpoint} cannot be asked: {errors[todo[0]]}")
            policy.wait(attempt)
    differences = []
    for address, one in by_address.items():
        instances, size = found[address]
        if not instances:
            differences.append(_difference("gone", one, f"nothing under {address}/"))
        elif (instances, size) != (one.instances, one.bytes):
            message = (
                f"{count(instances, 'file')} of {count(size, 'byte')} where the table has {one.instances} of "
                f"{one.bytes:,}"
            )
            differences.append(_difference("changed", one, message))
    return differences


def _against_nbia(
    rows: tuple[Wanted, ...], client: NbiaClient, policy: RetryPolicy, collection: str
) -> list[Difference]:
    failures = 0
    while True:
        try:
            answer = client.series(collection)
            break
        except DownloadError as error:
            failures += 1
            if failures >= policy.attempts or not is_passing(str(error)):
                raise
            policy.wait(failures)
    there = {str(row.get("SeriesInstanceUID", "")): row for row in answer}
    differences = []
    for one in rows:
        row = there.pop(one.series_uid, None)
        if row is None:
            differences.append(_difference("gone", one, "NBIA does not name it"))
        elif str(row.get("ImageCount", one.instances)) != str(one.instances):
            message = f"{row['ImageCount']} instead of {count(one.instances, 'file')}"
            differences.append(_difference("changed", one, message))
    for uid, row in there.items():
        patient = str(row.get("PatientID", ""))
        differences.append(
            Difference(kind="new", patient_id=patient, series_uid=uid, message="the table does not name it")
        )
    return differences


def _difference(kind: str, one: Wanted, message: str) -> Difference:
    return Difference(kind=kind, patient_id=one.patient_id, series_uid=one.series_uid, message=message)
