"""The plan of a run as a file: made once, kept to by every call that continues the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcc_tace_data.baseline.config import with_defaults
from hcc_tace_data.baseline.data import Cohort, Part, held_out
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.training_plan import Plan, make_plan
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import atomic_write_text

__all__ = ["plan_of", "refuse_other"]


def refuse_other(place: Path, request: ReproduceRequest) -> None:
    """Refuse a folder that holds a run of another request."""
    path = place / "plan.json"
    if path.is_file():
        said = _read_plan(path)["request"]
        said["config"] = with_defaults(said.get("config"))
        changed = [key for key, value in request.plain().items() if said.get(key) != value]
        if changed:
            raise BaselineError(
                f"{place} holds a run with another {', '.join(changed)}; continue it with the same, "
                "or use another folder."
            )


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = read_json_object(path)
        _ = plan["request"], plan["plan"], plan["store_digest"]
    except (OSError, KeyError, ValueError) as error:
        raise BaselineError(f"{path} is not the plan of a run ({error}); use another folder.") from error
    return plan


def plan_of(
    place: Path,
    request: ReproduceRequest,
    cohort: Cohort,
    parts: Sequence[Part],
    seconds: float | None,
    *,
    keep: bool,
) -> Plan:
    """Return the plan of the folder, or make one and write it."""
    path = place / "plan.json"
    if path.is_file():
        said = _read_plan(path)
        if said["store_digest"] != cohort.digest:
            raise BaselineError(f"the data changed since the run in {place} began; use another folder.")
        try:
            return Plan.from_plain(said["plan"])
        except (KeyError, TypeError, ValueError) as error:
            raise BaselineError(f"{path} is the plan of another version ({error!r}); use another folder.") from error
    plan = make_plan(request, parts, held_out(cohort), seconds=seconds)
    if keep:
        said = {"request": request.plain(), "plan": plan.plain(), "store_digest": cohort.digest}
        atomic_write_text(path, json.dumps(said, indent=1) + "\n")
    return plan
