"""Remake the word lists of the free-text scan (hcc_tace_data/data/deid_words.txt.gz and deid_names.txt.gz).

Words that are not names: the lower-case words of SCOWL's small American list (Debian's wamerican-small), every word of
the DICOM dictionary and of the coded concepts that pydicom carries, and the words of series and study descriptions
that curated public collections share. Only collections with an even checksum give words: the others stay unseen, so
that false alarms can be counted on them. Names: the lists of the US Census Bureau of 1990 (public domain), as the
package 'names' carries them.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from zlib import crc32

DATA = Path(__file__).resolve().parent.parent / "hcc_tace_data" / "data"
_WORD = re.compile(r"[A-Za-z]{2,}")
#: A word of descriptions is nobody's name if this many collections share it.
SHARED = 3
SURNAMES = 20_000  # more frequent than the others, which are "rare"


def unseen(collection: str) -> bool:
    """Return whether the descriptions of `collection` are kept from the word list."""
    return crc32(collection.encode()) % 2 == 1


def fold(text: str) -> str:
    """Return `text` in lower case without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


def split_words(text: str) -> Iterable[str]:
    """Yield the words of a description or keyword, camel case taken apart."""
    for part in _WORD.findall(text):
        yield from re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)
        yield part


def english(file: Path) -> set[str]:
    """Return the lower-case words of a word list: proper names begin with a capital there."""
    lines = file.read_text(encoding="utf-8").split()
    return {fold(line.removesuffix("'s")) for line in lines if line[:1].islower()}


def dicom() -> set[str]:
    """Return the words of element names, UID names and coded concepts."""
    from pydicom._dicom_dict import DicomDictionary
    from pydicom._uid_dict import UID_dictionary
    from pydicom.sr._concepts_dict import concepts

    texts = [name for entry in DicomDictionary.values() for name in (entry[2], entry[4])]
    texts += [entry[0] for entry in UID_dictionary.values()]
    for scheme in concepts.values():
        texts += [meaning for keyword in scheme.values() for meaning, _ in keyword.values()]
    return {word.lower() for text in texts for word in split_words(text)}


def described() -> set[str]:
    """Return words of descriptions that several collections share."""
    import idc_index_data
    import pandas as pd

    columns = ["collection_id", "SeriesDescription", "StudyDescription", "BodyPartExamined"]
    table = pd.read_parquet(idc_index_data.IDC_INDEX_PARQUET_FILEPATH, columns=columns)
    table = table[~table["collection_id"].map(unseen)]
    places: dict[str, set[str]] = defaultdict(set)
    for column in columns[1:]:
        pairs = table[["collection_id", column]].dropna().drop_duplicates()
        for collection, text in pairs.itertuples(index=False):
            for word in split_words(text):
                places[word.lower()].add(collection)
    return {word for word, where in places.items() if len(where) >= SHARED}


def census() -> tuple[set[str], list[str]]:
    """Return given names, and surnames from the most frequent on."""
    folder = files("names")

    def read(name: str) -> list[str]:
        return [line.split()[0].lower() for line in folder.joinpath(name).read_text().splitlines() if line.split()]

    return {*read("dist.female.first"), *read("dist.male.first")}, list(dict.fromkeys(read("dist.all.last")))


def write(name: str, words: Iterable[str]) -> None:
    """Write words a line; the same words give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as stream:
        stream.write("\n".join(words).encode())
    (DATA / name).write_bytes(buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--english", type=Path, required=True, help="american-english-small of wamerican-small")
    arguments = parser.parse_args()
    given, surnames = census()
    technical, shared, common = dicom(), described(), english(arguments.english)
    # t: technical, no name even where it is a surname; e: English, a name only beside another name. The coded concepts
    # hold many an eponym: a surname among them is technical only if descriptions use it.
    frequent, names = set(surnames[:SURNAMES]), given.union(surnames)
    safe = shared | (technical - names)
    lines = sorted(f"{word} t" for word in safe)
    lines += sorted(f"{word} e" for word in common - safe if len(word) > 1)
    write("deid_words.txt.gz", lines)
    kinds = {w: "g" * (w in given) + "s" * (w in frequent) or "r" for w in names}
    write("deid_names.txt.gz", sorted(f"{w} {kind}" for w, kind in kinds.items()))
    print(len(technical), len(shared), len(common), len(given), len(surnames))


if __name__ == "__main__":
    main()
