"""Plant identifiers of ten kinds into clean headers; print recall by kind and place, and false alarms.

Each trial plants one invented value into one header element; it counts as found when the finding names the element.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from hcc_tace_data.files import atomic_path
from hcc_tace_data.phantom import make_phantom
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.header_values import header_values

FIRST = ["Homer", "Marge", "Julius", "Edna", "Ned", "Selma", "Waylon", "Agnes"]
LAST = ["Simpson", "Hibbert", "Krabappel", "Flanders", "Bouvier", "Smithers", "Skinner"]
STRUCTURED = {
    "patient name": "PatientName",
    "record number": "OtherPatientIDs",
    "accession": "AccessionNumber",
    "physician": "ReferringPhysicianName",
    "institution": "InstitutionName",
    "uid": "IrradiationEventUID",
    "birth date": "PatientBirthDate",
    "address": "PatientAddress",
    "phone": "PatientTelephoneNumbers",
    "department": "InstitutionalDepartmentName",
}


def structured(kind: str, rng: random.Random) -> str:
    """Return an invented value of an element that is all identifier."""
    return {
        "patient name": f"{rng.choice(LAST)}^{rng.choice(FIRST)}",
        "record number": f"M{rng.randrange(10**6, 10**7)}",
        "accession": str(rng.randrange(10**6, 10**9)),
        "physician": f"{rng.choice(LAST)}^{rng.choice(FIRST)}",
        "institution": f"{rng.choice(LAST)} General Hospital",
        "uid": f"1.3.12.2.1107.5.1.4.{rng.randrange(10**9)}",
        "birth date": f"19{rng.randrange(20, 70)}{rng.randrange(1, 13):02}{rng.randrange(1, 28):02}",
        "address": f"{rng.randrange(1, 999)} Evergreen Terrace",
        "phone": f"555-{rng.randrange(100, 999)}-{rng.randrange(1000, 9999)}",
        "department": f"{rng.choice(LAST)} Imaging Wing",
    }[kind]


def free_text(kind: str, rng: random.Random) -> str:
    """Return a description with an invented identifier in it."""
    first, last, four = rng.choice(FIRST), rng.choice(LAST), rng.randrange(1000, 9999)
    choices = {
        "titled name": [f"LIVER, seen by Dr. {last}", f"discussed with Mrs {last}"],
        "bare name": [f"CT liver {first} {last}", f"{last}, {first} LIVER"],
        "DICOM name": [f"PRE LIVER {last.upper()}^{first.upper()}"],
        "date": [f"prior CT {rng.randrange(1, 12)}/{rng.randrange(1, 28)}/2009", "compared with 12 March 2008"],
        "phone": [f"call 555-{rng.randrange(100, 999)}-{four}", f"tel (555) {rng.randrange(100, 999)}-{four}"],
        "e-mail": [f"{first}.{last}@example.org"],
        "address": [f"{rng.randrange(1, 999)} Evergreen Terrace", f"{rng.randrange(1, 999)} Oak Street"],
        "record number": [f"MRN {four}{four}", f"acc# {four}{four}"],
        "URL": [f"http://pacs.example.org/{four}"],
        "IP address": [f"node 10.1.{rng.randrange(255)}.7"],
    }
    return rng.choice(choices[kind])


TEXTS = ["titled name", "bare name", "DICOM name", "date", "phone", "e-mail", "address", "record number", "URL",
         "IP address"]  # fmt: skip
PLACES = ("header", "sequence", "private", "UN")


def plant(dataset: Dataset, kind: str, place: str, text: bool, rng: random.Random) -> str:
    """Plant one value and return the end of the tag path where it should be reported."""
    value = free_text(kind, rng) if text else structured(kind, rng)
    keyword = "StudyDescription" if text else STRUCTURED[kind]
    target = dataset
    if place in {"private", "UN"}:
        block = dataset.private_block(0x0099, "BENCHMARK", create=True)
        raw = value.encode()
        vr = "LO" if place == "private" else "UN"
        block.add_new(1, vr, value if vr == "LO" else raw + b" " * (len(raw) % 2))
        return "0099[BENCHMARK]01"
    if place == "sequence":
        target = Dataset()
        dataset.RequestAttributesSequence = [target]
    setattr(target, keyword, value)
    return f"{pydicom.datadict.tag_for_keyword(keyword):08X}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=5, help="trials a kind and place")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    found: Counter[tuple[str, str, str]] = Counter()
    planned: dict[str, tuple[str, str, str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        twin = make_phantom(Path(folder) / "twin", patients=1, size="tiny")
        clean = next(twin.glob("HCC_*/*/CT_*/*.dcm"))
        files = sorted(twin.glob("HCC_*/*/*/*.dcm"))
        elements = sum(len(header_values(path)) for path in files)
        alarms = sum(f.evidence.get("count", 1) for f in validate(twin, select=["HT3"]).findings)
        planted = Path(folder) / "planted"
        planted.mkdir()
        for text in (False, True):
            for kind in TEXTS if text else STRUCTURED:
                # Private and UN values have no meaning of their own: there only free text is asked for.
                for place in PLACES if text else PLACES[:2]:
                    for _ in range(arguments.trials):
                        dataset = pydicom.dcmread(clean)
                        where = plant(dataset, kind, place, text, rng)
                        name = f"{len(planned):05d}.dcm"
                        dataset.save_as(planted / name)
                        planned[name] = ("free text" if text else "structured", kind, place, where)
        # One file at a time: equal values of two files would be reported once.
        for name, (group, kind, place, where) in planned.items():
            single = Path(folder) / "single"
            single.mkdir(exist_ok=True)
            (planted / name).rename(single / name)
            findings = validate(single, select=["HT3"]).findings
            found[group, kind, place] += any(f.tag.endswith(where) for f in findings)
            (single / name).unlink()
    table = [
        {"group": g, "kind": k, "place": p, "found": found[g, k, p], "of": arguments.trials}
        for g, k, p in sorted({(g, k, p) for g, k, p, _ in planned.values()})
    ]
    for row in table:
        print(f"{row['group']:10} {row['kind']:14} {row['place']:9} {row['found']:3}/{row['of']}")
    result: dict[str, object] = {"rows": table, "false_alarms_per_1000": 1000 * alarms / elements}
    for group in ("structured", "free text"):
        rows = [row for row in table if row["group"] == group]
        result[f"recall {group}"] = sum(row["found"] for row in rows) / sum(row["of"] for row in rows)
        print(f"recall, {group}: {result[f'recall {group}']:.3f}")
    print(f"false alarms: {alarms} in {elements} elements of clean headers")
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
