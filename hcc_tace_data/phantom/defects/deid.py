"""Defects of de-identification: for each rule of HT3 a change to a twin that breaks this rule and no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.phantom.defects.registry import register
from hcc_tace_data.phantom.defects.tools import change, read, write
from hcc_tace_data.system.files import atomic_path, atomic_write_bytes
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__: list[str] = []

#: Letters of five by seven points: the name that HT312's defect draws.
_GLYPHS = {
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "I": "11111 00100 00100 00100 00100 00100 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "N": "10001 11001 10101 10011 10001 10001 10001",
}


def _series(root: Path, rng: np.random.Generator) -> list[Path]:
    """Return the files of one CT series, in order of their names."""
    folders = sorted(root.glob("HCC_*/*/CT_*"))
    return sorted(folders[int(rng.integers(len(folders)))].glob("*.dcm"))


def _plant(code: str, what: str, edit: Callable[[Dataset], Any], *, whole: bool = False) -> None:
    """Register a defect that changes the header of one file, or of all files of its series."""

    @register(code)
    def defect(root: Path, rng: np.random.Generator) -> str:
        files = _series(root, rng)
        chosen = files if whole else [files[len(files) // 2]]
        change(chosen, edit)
        return f"{what} in {count(len(chosen), 'file')} of {chosen[0].parent.relative_to(root)}"


def _set(keyword: str, value: Any) -> Callable[[Dataset], Any]:
    return lambda dataset: setattr(dataset, keyword, value)


def _no_method(dataset: Dataset) -> None:
    del dataset.DeidentificationMethod
    del dataset.DeidentificationMethodCodeSequence


def _private(dataset: Dataset) -> None:
    dataset.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(0x01, "LO", "ZKRT_xqw")


def _add_days(dataset: Dataset) -> None:
    from pydicom.valuerep import DA

    date = DA(dataset.StudyDate)
    dataset.ContentDate = (date + timedelta(days=17)).strftime("%Y%m%d")


_plant("HT301", "named an invented physician", _set("PhysiciansOfRecord", "INVENTED^DOCTOR"))
_plant("HT303", "named an invented person in a comment", _set("ImageComments", "discussed with Dr. Homer Invented"))
_plant("HT304", "removed the method of de-identification", _no_method, whole=True)
_plant("HT305", "put a date of 1970", _set("DateOfLastCalibration", "19700101"))
_plant("HT306", "put a UID of a manufacturer's root", _set("IrradiationEventUID", "1.2.840.113619.2.55.3.2831868886.1"))
_plant("HT307", "called an image a dose page", _set("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "DOSE_INFO"]))
_plant("HT309", "shifted one date by 17 days more", _add_days)
_plant(
    "HT310",
    "removed the mark of modified dates",
    lambda d: d.__delattr__("LongitudinalTemporalInformationModified"),
    whole=True,
)
_plant("HT311", "put an unknown private element", _private)
_plant("HT315", "removed the mark of a removed identity", _set("PatientIdentityRemoved", "NO"), whole=True)
_plant("HT316", "marked an image as having names in its pixels", _set("BurnedInAnnotation", "YES"))


def _overlay_bits(dataset: Dataset) -> None:
    """Keep an empty overlay plane in a bit that no pixel uses."""
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.add_new(0x60000010, "US", dataset.Rows)
    dataset.add_new(0x60000011, "US", dataset.Columns)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 12)


_plant("HT317", "kept an overlay plane in bit 12 of the pixels", _overlay_bits)


@register("HT318")
def _hidden_name(root: Path, rng: np.random.Generator) -> str:
    files = _series(root, rng)
    path = files[len(files) // 2]
    dataset = read(path)
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns).copy()
    text = _drawn("SIMPSON", max(1, pixels.shape[1] // 64))
    corner = pixels[2 : 2 + text.shape[0], 2 : 2 + text.shape[1]]
    corner[text] ^= 1 << 12
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.PixelData = pixels.tobytes()
    write(path, dataset)
    return f"drew a name into bit 12 of the pixels of {path.relative_to(root)}"


@register("HT302")
def _patient_name(root: Path, rng: np.random.Generator) -> str:
    patient = sorted(root.glob("HCC_*"))[0]
    change(sorted(patient.rglob("*.dcm")), _set("PatientName", "INVENTED^PERSON"))
    return f"named {patient.name} INVENTED^PERSON in all files"


@register("HT308")
def _unscanned(root: Path, rng: np.random.Generator) -> str:
    files = _series(root, rng)
    path = files[len(files) // 2]
    dataset = read(path)
    # an item whose only element claims more bytes than the item has
    broken = pack("<HH2sH", 0x0040, 0x1001, b"SH", 500)
    item = pack("<HHI", 0xFFFE, 0xE000, len(broken)) + broken
    head = pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, len(item))
    data = path.read_bytes()
    pixels = pack("<HH2s", 0x7FE0, 0x0010, b"OW")
    place = data.index(pixels, len(data) - len(dataset.PixelData) - 12)
    atomic_write_bytes(path, data[:place] + head + item + data[place:])
    return f"broke a sequence of {path.relative_to(root)}"


@register("HT312")
def _pixel_text(root: Path, rng: np.random.Generator) -> str:
    files = _series(root, rng)
    for path in files:
        dataset = read(path)
        pixels = dataset.pixel_array.copy()
        text = _drawn("SIMPSON", max(1, pixels.shape[1] // 64))
        pixels[2 : 2 + text.shape[0], 2 : 2 + text.shape[1]][text] = pixels.max()
        dataset.PixelData = pixels.tobytes()
        write(path, dataset)
    return f"drew a name into the pixels of {count(len(files), 'file')} of {files[0].parent.relative_to(root)}"


def _drawn(text: str, scale: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    blocks = []
    for letter in text:
        points = np.array([c == "1" for c in _GLYPHS[letter].replace(" ", "")]).reshape(7, 5)
        blocks += [points, np.zeros((7, 2), dtype=bool)]
    return np.kron(np.hstack(blocks), np.ones((scale, scale), dtype=bool))


@register("HT313")
def _clinical(root: Path, rng: np.random.Generator) -> str:
    import openpyxl
    from openpyxl.comments import Comment

    path = next((root / "clinical").glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    book.worksheets[0].cell(row=2, column=3).comment = Comment("asked Mrs. Marge Invented, 555-867-5309", "reader")
    with atomic_path(path) as temporary:
        book.save(temporary)
    return f"put a comment with an invented name into {path.relative_to(root)}"


@register("HT314")
def _file_name(root: Path, rng: np.random.Generator) -> str:
    files = _series(root, rng)
    path = files[len(files) // 2]
    path.rename(path.with_name("Simpson_Homer.dcm"))
    return f"renamed {path.relative_to(root)} after an invented person"
