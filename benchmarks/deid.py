"""Plant identifiers of ten kinds into clean headers; print recall by kind and place, and false alarms.

Ten kinds as whole values of elements ("structured") and ten inside descriptions ("free text"), in four places each: a
header element, an item of a sequence, a private element, and an element whose VR is UN. Names, addresses, numbers and
dates come from Faker in thirteen locales, which the detector knows nothing of (its names are those of the US census
of 1990); the descriptions around them are those of published collections that gave no words to the detector's lists.
A plant counts as found when a finding names its file and element. Kinds are planted into one folder a place, so that
what one plant tells cannot give another away.

False alarms are counted over the elements of a clean twin, over published descriptions, and over folders named with
--clean.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy
import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from hcc_tace_data.dicom.header_values import TEXT_VRS
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.open import open_collection
from hcc_tace_data.phantom import make_phantom
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.deid.facts import DeidFacts
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.deid.judge import text_kinds
from hcc_tace_data.validators.facts.header_scan import header_scan

try:
    from faker import Faker
except ModuleNotFoundError:
    sys.exit(
        "benchmarks/deid.py invents names and addresses with Faker, which is not installed: pip install '.[bench]'"
    )

LOCALES = [
    "en_US",
    "en_GB",
    "de_DE",
    "fr_FR",
    "es_MX",
    "it_IT",
    "pl_PL",
    "nl_NL",
    "pt_BR",
    "tr_TR",
    "sv_SE",
    "vi_VN",
    "en_IN",
]
HOUSES = ("General Hospital", "Clinic", "Medical Center")
#: Of two manufacturers.
ROOTS = ("1.2.840.113619.2.55.3.", "1.3.12.2.1107.5.1.4.")
PLACES = ("header", "sequence", "private", "UN")
#: Rules that may speak for a plant. HT304, HT310 and similar rules judge whole files.
RULES = ["HT301", "HT302", "HT303", "HT306", "HT311"]


class Source:
    """Invented identifiers of many countries, and descriptions to put them into."""

    def __init__(self, seed: int, descriptions: list[str]) -> None:
        self.rng = random.Random(seed)
        self.fakers = {name: Faker(name) for name in LOCALES}
        for faker in self.fakers.values():
            faker.seed_instance(seed)
        self.descriptions = descriptions

    def faker(self) -> Faker:
        return self.fakers[self.rng.choice(LOCALES)]

    def number(self, digits: int) -> str:
        return str(self.rng.randrange(10 ** (digits - 1), 10**digits))

    def cased(self, text: str) -> str:
        return text.upper() if self.rng.random() < 1 / 3 else text

    def date(self, first: int = 1990, last: int = 2012) -> tuple[int, int, int]:
        return self.rng.randrange(first, last), self.rng.randrange(1, 13), self.rng.randrange(1, 29)

    def address(self) -> str:
        return str(self.faker().street_address()).replace("\n", ", ")

    def english_address(self) -> str:
        return str(self.fakers[self.rng.choice(["en_US", "en_GB"])].street_address()).replace("\n", ", ")


def person(source: Source) -> str:
    faker = source.faker()
    return source.cased(f"{faker.last_name()}^{faker.first_name()}")


def _number(source: Source, prefixes: list[str], shortest: int = 6) -> str:
    return source.rng.choice(prefixes) + source.number(source.rng.randrange(shortest, 11))


#: Kind -> element, VR in a private block, and what makes a value.
STRUCTURED: dict[str, tuple[str, str, Callable[[Source], str]]] = {
    "patient name": ("OtherPatientNames", "PN", person),
    "physician": ("ReferringPhysicianName", "PN", person),
    "record number": ("OtherPatientIDs", "LO", lambda s: _number(s, ["", "M", "E00", "PT-"])),
    "accession number": ("AccessionNumber", "SH", lambda s: _number(s, ["", "A", "CT"])),
    "birth date": ("PatientBirthDate", "DA", lambda s: "{}{:02}{:02}".format(*s.date(1920, 1975))),
    "institution": ("InstitutionName", "LO", lambda s: f"{s.faker().last_name()} {s.rng.choice(HOUSES)}"),
    "department": ("InstitutionalDepartmentName", "LO", lambda s: f"{s.faker().last_name()} Imaging Wing"),
    "address": ("PatientAddress", "LO", lambda s: s.address()),
    "phone": ("PatientTelephoneNumbers", "SH", lambda s: s.faker().phone_number()[:16]),
    "uid": ("IrradiationEventUID", "UI", lambda s: s.rng.choice(ROOTS) + s.number(9)),
}  # fmt: skip


def _name(s: Source) -> str:
    faker = s.faker()
    first, last, initial = faker.first_name(), faker.last_name(), s.rng.choice("ABCDEFGHJKLMNPRSTW")
    forms = [f"{first} {last}", f"{last}, {first}", f"{first} {initial}. {last}"]
    return s.cased(s.rng.choice(forms))


def _date(s: Source) -> str:
    year, month, day = s.date()
    name = s.fakers["en_US"].month_name()
    return s.rng.choice([f"{month}/{day}/{year}", f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}",
                         f"{year}{month:02}{day:02}", f"{day} {name} {year}", f"{name} {day}, {year}",
                         f"{day:02}-{name[:3].upper()}-{year}", f"{month}/{day}/{year % 100:02}"])  # fmt: skip


#: Kind -> what makes a text to put into a description.
TEXTS: dict[str, Callable[[Source], str]] = {
    "name": _name,
    "titled name": lambda s: s.cased(f"{s.rng.choice(['Dr.', 'Dr', 'Mrs.', 'Mr.', 'Prof.'])} {s.faker().last_name()}"),
    "DICOM name": person,
    "date": _date,
    "phone": lambda s: s.rng.choice(["", "call ", "tel. "]) + s.faker().phone_number(),
    "e-mail": lambda s: s.faker().email(),
    "address": lambda s: s.rng.choice([s.address(), s.english_address()]),
    "record or accession number": lambda s: _number(s, ["MRN ", "MRN: ", "acc# ", "Accession ", "patient ID ", ""], 7),
    "URL": lambda s: s.faker().url(),
    "IP address": lambda s: s.rng.choice([s.faker().ipv4(), s.faker().ipv4_private()]),
}  # fmt: skip


def descriptions() -> tuple[list[str], list[str]]:
    """Return the collection's own series descriptions, and those of collections that gave the detector no words."""
    own = sorted({text for text in load_series_table(with_bamf=True)["series_description"].dropna() if text})
    try:
        import idc_index_data
        import pandas as pd
    except ImportError:
        return own, []
    table = pd.read_parquet(idc_index_data.IDC_INDEX_PARQUET_FILEPATH, columns=["collection_id", "SeriesDescription"])
    # A quarter of the collections: half of the rest gave words (scripts/make_deid_words.py), half was looked at for
    # tuning.
    unseen = table[table["collection_id"].map(lambda name: crc32(name.encode()) % 4 == 3)].dropna()
    return own, sorted(unseen["SeriesDescription"].unique())


def varied(texts: list[str]) -> list[str]:
    """Return one text of each form: those that differ in digits alone would crowd out the others."""
    return list({re.sub(r"\d+", "0", text): text for text in texts if not suspicions(text)}.values())


def plant(dataset: Dataset, place: str, keyword: str, vr: str, value: str, rng: random.Random) -> str:
    """Plant one value; return the end of the tag path where it should be reported."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    padded = value.encode() + (b"\0" if vr == "UI" else b" ") * (len(value.encode()) % 2)
    if place == "private" or (place == "UN" and rng.random() < 0.5):
        block = dataset.private_block(0x0099, "BENCHMARK", create=True)
        if place == "private":
            block.add_new(1, vr, value)
        else:
            block.add_new(1, "UN", padded)
        return "0099[BENCHMARK]01"
    if place == "UN":
        dataset[tag] = DataElement(tag, "UN", padded)
    elif place == "sequence":
        item = Dataset()
        setattr(item, keyword, value)
        dataset.RequestAttributesSequence = [item]
    else:
        setattr(dataset, keyword, value)
    return f"{tag:08X}"


def measure(
    clean: Path, folder: Path, source: Source, place: str, text: bool, trials: int
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Plant every kind at one place; return found and planted by kind, and what was missed."""
    planned: dict[str, tuple[str, str, str]] = {}
    for kind in TEXTS if text else STRUCTURED:
        for _ in range(trials):
            dataset = pydicom.dcmread(clean)
            dataset.SeriesInstanceUID = f"2.25.{len(planned) + 10**30}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{len(planned) + 10**31}"
            if text:
                around = source.rng.choice(source.descriptions)[:40].strip()
                value = source.rng.choice(["{} {}", "{1} {0}"]).format(around, TEXTS[kind](source))
                keyword = source.rng.choice(
                    ["ImageComments", "StudyComments"] if place != "sequence" else ["RequestedProcedureComments"]
                )
                where = plant(dataset, place, keyword, "LT", value, source.rng)
            else:
                keyword, vr, make = STRUCTURED[kind]
                value = make(source)
                where = plant(dataset, place, keyword, vr, value, source.rng)
            name = f"{len(planned):05d}.dcm"
            dataset.save_as(folder / name)
            planned[name] = kind, where, value
    findings = {
        (finding.path, finding.tag.rsplit("/", 1)[-1]) for finding in validate(folder, select=RULES, workers=1).findings
    }
    found: Counter[str] = Counter()
    missed = []
    for name, (kind, where, value) in planned.items():
        if (name, where) in findings:
            found[kind] += 1
        else:
            missed.append(f"{kind}, {place}: {value!r}")
    return found, Counter(kind for kind, _, _ in planned.values()), missed


def alarms(root: Path, select: list[str] | None = None) -> tuple[int, int, list[str]]:
    """Return findings of HT3, elements looked at, and where the findings are."""
    report = validate(root, select=select or ["HT3"], workers=1)
    context = Context(open_collection(root, workers=1))
    elements = sum(seen.count for _, seen in context.fact(header_scan).items())
    told = [f"{finding.code} {finding.tag} {finding.message}" for finding in report.findings]
    return sum(int(finding.evidence.get("count", 1)) for finding in report.findings), elements, told


def pydicom_texts(folder: Path) -> tuple[int, int, list[str]]:
    """Judge the public texts of pydicom's test files: not de-identified, but free of names in descriptions.

    Private elements are left out (they do hold names), and what repeats an identifier of another element.
    """
    shutil.copytree(
        Path(pydicom.__file__).parent / "data" / "test_files", folder, ignore=shutil.ignore_patterns("*.py")
    )
    context = Context(open_collection(folder, workers=1))
    facts = DeidFacts(context.catalog, context.fact(header_scan))
    count, told = 0, []
    for value in facts.values():
        if "[" not in value.path and value.vr in TEXT_VRS:
            count += value.seen.count
            kinds = [kind for kind in text_kinds(facts, value) if "told" not in kind]
            told += [f"{value.tag} {', '.join(kinds)}"] if kinds else []
    return len(told), count, told


def burned_in(twin: Path, source: Source, count: int) -> tuple[int, int]:
    """Draw names into CT slices, 12 to 24 points high, and read them; return found and drawn."""
    from PIL import Image, ImageDraw, ImageFont

    from hcc_tace_data.validators.deid.pixels import read_text

    files = sorted(twin.glob("HCC_*/*/CT_*/*.dcm"))
    hits = 0
    for _ in range(count):
        pixels = pydicom.dcmread(source.rng.choice(files)).pixel_array
        large = Image.fromarray(pixels.astype("int32")).resize((512, 512), Image.Resampling.BICUBIC)
        faker = source.fakers[source.rng.choice(["en_US", "en_GB"])]
        name = f"{faker.last_name()} {faker.first_name()}".upper()
        draw, font = ImageDraw.Draw(large), ImageFont.load_default(size=source.rng.randrange(12, 25))
        draw.text((source.rng.randrange(5, 200), source.rng.randrange(5, 480)), name, fill=int(pixels.max()), font=font)
        read = "".join(read_text(numpy.asarray(large).astype("int16"))).upper()
        hits += any(part in read for part in name.split())
    return hits, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=25, help="plants a kind and place")
    parser.add_argument("--seed", type=int, default=2026, help="of everything invented; any other gives other plants")
    parser.add_argument(
        "--clean", type=Path, nargs="*", default=[], help="folders of clean headers, to count false alarms on"
    )
    parser.add_argument("--pixels", type=int, default=0, help="names to draw into slices (needs the extra [ocr])")
    parser.add_argument("--show-missed", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of values that are wrong on purpose
    own, unseen = descriptions()
    source = Source(arguments.seed, varied(unseen or own))
    rows: list[dict[str, object]] = []
    result: dict[str, object] = {"seed": arguments.seed, "rows": rows}
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        twin = make_phantom(Path(name) / "twin", patients=2, size="tiny", workers=1)
        clean = next(iter(sorted(twin.glob("HCC_*/*/CT_*/*.dcm"))))
        for text, group, kinds in ((False, "structured", list(STRUCTURED)), (True, "free text", list(TEXTS))):
            found: dict[str, Counter[str]] = {}
            total = hits = 0
            for place in PLACES:
                folder = Path(name) / f"{group}-{place}".replace(" ", "-")
                folder.mkdir()
                found[place], planted, lost = measure(clean, folder, source, place, text, arguments.trials)
                missed += lost
                total += sum(planted.values())
                hits += sum(found[place].values())
            print(f"\n{group:28}" + "".join(f"{place:>10}" for place in PLACES) + f"   of {arguments.trials} each")
            for kind in kinds:
                print(f"{kind:28}" + "".join(f"{found[place][kind]:10}" for place in PLACES))
                rows += [
                    {"group": group, "kind": kind, "place": place, "found": found[place][kind], "of": arguments.trials}
                    for place in PLACES
                ]
            result[f"recall {group}"] = hits / total
            print(f"recall, {group}: {hits}/{total} = {hits / total:.4f}")
        clean_rows = [("clean twin", *alarms(twin))]
        clean_rows.append(("public texts, pydicom's files", *pydicom_texts(Path(name) / "pydicom")))
        if arguments.pixels:
            hits, count = burned_in(twin, source, arguments.pixels)
            result["recall pixels"] = hits / count
            print(f"\nnames drawn into CT slices and read: {hits} of {count}")
    clean_rows += [(str(folder), *alarms(folder)) for folder in arguments.clean]
    for what, texts in (("descriptions, this collection", own), ("descriptions, unseen collections", unseen)):
        hit = [text for text in texts if suspicions(text)]
        clean_rows.append((what, len(hit), len(texts), hit if what.startswith("descriptions, this") else []))
    print("\nfalse alarms")
    for what, count, of, told in clean_rows:
        rate = 1000 * count / of if of else 0.0
        print(f"{what:34} {count:6} in {of:8} = {rate:.2f} per 1,000")
        for line in told:
            print(f"    {line}")
        result[f"false alarms per 1000, {what}"] = rate
    if arguments.show_missed:
        print("\nmissed (all invented)", *missed, sep="\n    ")
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
