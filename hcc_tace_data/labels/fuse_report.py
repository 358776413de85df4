"""What a fusion of files leaves behind: label map, probabilities, DICOM-SEG, and a report that is written last."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom import seg_write
from hcc_tace_data.facts.catalog import Catalog
from hcc_tace_data.labels.agreement import agreement, summary
from hcc_tace_data.labels.staple import Fusion
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import write_json
from hcc_tace_data.system.words import count
from hcc_tace_data.version import __version__

__all__ = ["OURS", "begin", "file_names", "make_report", "probability_names", "reader_names", "write_seg"]

#: Names of the files of a result; nothing else is ever removed.
OURS = re.compile(
    r"labels\.(nii\.gz|json)|labels_seg\.dcm|fusion\.json|probability_\w+\.nii\.gz|phase_\d+\.(nii\.gz|tfm(\.json)?)"
)


def file_names(numbers: dict[str, int], method: str, phases: int, *, seg: bool) -> list[str]:
    """Return the names of all files of a result."""
    names = [f"phase_{n}{suffix}" for n in range(1, phases + 1) for suffix in (".nii.gz", ".tfm", ".tfm.json")]
    names.append("labels.nii.gz")
    names += probability_names(numbers).values() if method == "staple" else []
    return [*names, *(["labels_seg.dcm"] if seg else []), "labels.json", "fusion.json"]


def probability_names(numbers: dict[str, int]) -> dict[int, str]:
    """Return number -> the name of its file; with the number where two labels would be one name."""
    plain = {number: re.sub(r"\W", "_", key) for key, number in numbers.items()}
    often = Counter(name.casefold() for name in plain.values())
    return {
        number: f"probability_{name}{'' if often[name.casefold()] == 1 else f'_{number}'}.nii.gz"
        for number, name in plain.items()
    }


def begin(folder: Path, written: list[str]) -> set[str]:
    """Note what is about to be written, and return it with the names of an earlier result.

    A run that is stopped leaves this note in the place of the report, so that its files are not taken for a complete
    result, and the next run knows them. Files of an earlier fusion that this one does not make are removed at the end:
    they belong to other readers or options.
    """
    try:
        earlier = read_json_object(folder / "fusion.json")["written"]
        known = {str(name) for name in earlier if OURS.fullmatch(str(name))}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = set()
    known |= set(written)
    write_json(folder / "fusion.json", {"complete": False, "written": sorted(known)})
    return known


def write_seg(
    path: Path,
    label_map: npt.NDArray[Any],
    numbers: dict[str, int],
    sources: Sequence[Path],
    method: str,
    readers: list[str],
    catalog: Catalog,
) -> None:
    """Write the label map as DICOM-SEG on the CT of the `sources`."""
    name = "STAPLE" if method == "staple" else f"Voting ({method})"
    algorithm = seg_write.Algorithm(
        name=name,
        version=__version__,
        kind="SEMIAUTOMATIC",
        parameters={"readers": str(len(readers)), "method": method},
    )
    segments = {number: key for key, number in numbers.items()}
    masks = {key: label_map == number for number, key in segments.items()}
    described = f"{name} of {count(len(readers), 'reader')}"
    seg_write.write_seg(path, masks, sources, algorithm=algorithm, series_description=described, catalog=catalog)


def make_report(
    fused: Fusion,
    masks: list[dict[int, npt.ArrayLike]],
    numbers: dict[str, int],
    names: list[str],
    affine: npt.NDArray[np.float64],
    method: str,
    threshold: float,
    weight: float,
) -> dict[str, Any]:
    """Return what is to be known about the fusion, as plain values."""
    spacing = [float(n) for n in np.linalg.norm(affine[:3, :3], axis=0)]
    agreed: dict[str, dict[str, Any]] = {}
    for key, number in numbers.items():
        who = [place for place, reader in enumerate(masks) if number in reader]  # who looked for it
        if len(who) > 1:
            found = agreement([np.asarray(masks[place][number], bool) for place in who], spacing, label=True)
            agreed[key] = summary(found, [names[place] for place in who])

    def plain(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
        return {name: None if v != v else float(v) for name, v in zip(names, values, strict=True)}

    staple = {
        key: {
            "iterations": fused.iterations[number],
            "prior": fused.prior[number],
            "sensitivity": plain(fused.sensitivity[number]),
            "specificity": plain(fused.specificity[number]),
        }
        for key, number in numbers.items()
    }
    return {
        "method": method,
        "region": fused.region,
        "weight": weight,
        "threshold": threshold,
        "ties": list(numbers),
        "labels": numbers,
        "staple": staple,
        "agreement": agreed,
    }


def reader_names(paths: list[Path]) -> list[str]:
    """Return a short name for each reader: the file's; where several files have one name, their folder's."""
    stems = Counter(path.name.split(".")[0] for path in paths)
    names = []
    for path in paths:
        stem = path.name.split(".")[0]
        names.append(stem if stems[stem] == 1 else path.resolve().parent.name)
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
