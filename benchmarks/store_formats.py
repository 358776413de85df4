"""Ways to store volumes for training: bytes on disk against random slices and patches per second.

python benchmarks/store_formats.py [--root build/supply] [--seconds 1.0] [--repeats 3] [--json FILE]

Ten `full` phantom patients, whole volumes of int16 HU as the store keeps them. Every format is written, read back and
compared voxel by voxel, then read at random by one thread, files in the page cache: whole slices of 512 x 512, and
patches of 96^3, both into one float32 array. Formats take turns; medians of the repeats are printed. Compressed chunks
are tried as slices, which suits slices, and as blocks, which suits patches; a file that can only be decompressed whole
is read whole for every sample. A phantom's noise is not that of a scanner: sizes are not those of the collection.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import TEN_PATIENTS, folder_bytes, full_patients, rate_options

from hcc_tace_data import load_hcc_tace

PATCH = 96
BLOCK = (32, 64, 64)
Volume = npt.NDArray[np.int16]
Where = tuple[slice, ...]


@dataclass(frozen=True)
class Format:
    """How a volume is written to a path, and opened as something that can be indexed by slices."""

    write: Callable[[Path, Volume], None]
    open: Callable[[Path], Any]
    suffix: str = ""


class Whole:
    """A file that is decompressed whole each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, where: Where) -> Any:
        with np.load(self.path) as file:
            return file["image"][where]


def mapped(path: Path) -> Any:
    """As the store maps it."""
    return np.asarray(np.load(path, mmap_mode="r"))


def zarr_chunks(chunks: Sequence[int], codec: str) -> Format:
    """Zarr, Blosc with bit shuffle."""
    import zarr

    def write(path: Path, array: Volume) -> None:
        blosc = zarr.codecs.BloscCodec(cname=codec, clevel=5, shuffle="bitshuffle")
        made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=tuple(chunks), compressors=blosc)
        made[:] = array

    return Format(write, lambda path: zarr.open_array(path, mode="r"))


def hdf5_chunks(chunks: Sequence[int] | None, codec: str | None) -> Format:
    """HDF5, contiguous or in chunks."""
    import h5py

    def write(path: Path, array: Volume) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "image", data=array, chunks=None if chunks is None else tuple(chunks), compression=codec
            )

    return Format(write, lambda path: h5py.File(path, "r")["image"])


def blosc2_blocks(chunks: Sequence[int], blocks: Sequence[int]) -> Format:
    """Blosc2, mapped, as nnU-Net stores its volumes."""
    import blosc2

    blosc2.set_nthreads(1)

    def write(path: Path, array: Volume) -> None:
        how = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1}
        blosc2.asarray(array, chunks=tuple(chunks), blocks=tuple(blocks), urlpath=str(path), mode="w", cparams=how)

    return Format(write, lambda path: blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1}))


def formats() -> dict[str, Format]:
    """All of them."""
    plane = (1, 512, 512)
    return {
        "npy, mapped (the store)": Format(lambda path, array: np.save(path, array), mapped, ".npy"),
        "HDF5, contiguous": hdf5_chunks(None, None),
        "HDF5, slices, lzf": hdf5_chunks(plane, "lzf"),
        "Zarr, slices, lz4": zarr_chunks(plane, "lz4"),
        "Zarr, blocks, lz4": zarr_chunks(BLOCK, "lz4"),
        "Zarr, slices, zstd": zarr_chunks(plane, "zstd"),
        "Blosc2, slices, zstd": blosc2_blocks(plane, plane),
        "Blosc2, blocks, zstd": blosc2_blocks((64, 128, 128), BLOCK),
        "npz, deflate": Format(lambda path, array: np.savez_compressed(path, image=array), Whole, ".npz"),
    }


def rate(files: Sequence[Any], places: Sequence[tuple[int, Where]], seconds: float) -> float:
    """Samples per second."""
    out = np.empty([part.stop - part.start for part in places[0][1]], dtype=np.float32)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        number, where = places[count % len(places)]
        np.copyto(out, files[number][where])
        count += 1
    return count / spent


def places(volumes: Sequence[Volume], size: Sequence[int], count: int = 500) -> list[tuple[int, Where]]:
    """Random boxes of `size` in the volumes that hold one."""
    rng = np.random.default_rng(0)
    fit = [n for n, v in enumerate(volumes) if all(full >= part for full, part in zip(v.shape, size, strict=True))]
    found = []
    for n in rng.choice(fit, count):
        corner = [int(rng.integers(0, full - part + 1)) for full, part in zip(volumes[n].shape, size, strict=True)]
        found.append((int(n), tuple(slice(c, c + part) for c, part in zip(corner, size, strict=True))))
    return found


def compare(volumes: Sequence[Volume], scratch: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """Write, check, time."""
    result: dict[str, Any] = {}
    opened: dict[str, list[Any]] = {}
    for name, how in formats().items():
        folder = scratch / str(len(opened))
        folder.mkdir()
        start = time.perf_counter()
        paths = [folder / f"{n}{how.suffix}" for n in range(len(volumes))]
        for path, volume in zip(paths, volumes, strict=True):
            how.write(path, volume)
        result[name] = {"write_s": time.perf_counter() - start, "megabytes": folder_bytes([folder]) / 1e6}
        opened[name] = [how.open(path) for path in paths]
        for file, volume in zip(opened[name], volumes, strict=True):
            if not np.array_equal(file[(slice(None),) * 3], volume):
                raise SystemExit(f"{name}: a volume read back is not what was written")
    for unit, size in {"slices": (1, 512, 512), "patches": (PATCH,) * 3}.items():
        where = places(volumes, size)
        rates: dict[str, list[float]] = {name: [] for name in opened}
        for _ in range(repeats):
            for name, files in opened.items():
                rate(files, where, 0.3 * seconds)
                rates[name].append(rate(files, where, seconds))
        for name, found in rates.items():
            result[name][f"{unit}_per_s"] = statistics.median(found)
    return result


def main() -> None:
    """Compare and print."""
    options = rate_options(__doc__, seconds=1.0)
    with tempfile.TemporaryDirectory() as temporary, full_patients(options.root, TEN_PATIENTS) as root:
        ready = load_hcc_tace(root, unit="volume", phases="annotated").prepared()
        volumes = [np.array(source.stored.image[0]) for source in ready.sources]
        result = compare(volumes, Path(temporary), options.seconds, options.repeats)
    print(f"{'':<26}{'MB':>8}{'write s':>9}{'slices/s':>10}{'96^3/s':>9}")
    for name, row in result.items():
        print(
            f"{name:<26}{row['megabytes']:8.0f}{row['write_s']:9.1f}{row['slices_per_s']:10.0f}"
            f"{row['patches_per_s']:9.0f}"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
