"""Training supply against its peers on the same volumes, in one process: equality first, then samples per second.

python benchmarks/supply.py [--root build/supply] [--seconds 1.5] [--repeats 3] [--json FILE]

Slices are 2D and 512 x 512, image float32 in HU and label uint8, in shuffled batches of 32, and of 16: memory for less
than 32 MiB is used again by the C library, for more it comes fresh from the kernel each time, which slows every peer
and not us. Patches are 96^3, in batches of 2. Peers run without worker processes and with two; the better rate counts.
Each takes turns with the others; what is printed is the median of the repeats. Peers that cache in memory hold all
volumes, peers that map files map ours. PyTorch's own threads are off, which helps the peers: on busy cores they wait
for each other. They are on where slices are augmented.

MONAI's own readers and transforms give MetaTensor, a tensor with an affine; a cache of bare tensors is the fastest
thing that can be built of its parts, and counts as a peer too.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import TEN_PATIENTS, folder_bytes, full_patients, rate_options
from torch.utils.data import DataLoader, Dataset

from hcc_tace_data import Patches, load_hcc_tace
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.loaders.sample import read_labels
from hcc_tace_data.loaders.supply import copies
from hcc_tace_data.loaders.supply.augment import Augment
from hcc_tace_data.loaders.supply.patches import patch_corner

BATCHES, PATCH_BATCH, PATCH, PER_VOLUME = (32, 16), 2, 96, 48
WINDOW = (-160.0, 240.0)
Key = tuple[int, ...]


class Slices(Dataset):
    """Slices through a function of (case, slice)."""

    def __init__(self, keys: list[Key], get: Callable[[int, int], tuple[Any, Any]]) -> None:
        self.keys, self.get = keys, get

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int) -> dict[str, Any]:
        image, label = self.get(*self.keys[i])
        return {"image": image, "label": label, "key": torch.tensor(self.keys[i])}


class Memmap:
    """Slices and patches of .npy files, mapped."""

    def __init__(self, folders: list[Path]) -> None:
        self.images = [np.load(folder / "image.npy", mmap_mode="r") for folder in folders]
        self.labels = [np.load(folder / "label.npy", mmap_mode="r") for folder in folders]

    def plane(self, n: int, d: int) -> tuple[Any, Any]:
        """Slice d of case n."""
        image = torch.from_numpy(self.images[n][:, d].astype(np.float32))
        return image, torch.from_numpy(np.array(self.labels[n][d]))

    def patch(self, n: int, *corner: int) -> tuple[Any, Any]:
        """Patch of case n."""
        where = tuple(slice(c, c + PATCH) for c in corner)
        image = torch.from_numpy(self.images[n][(slice(None), *where)].astype(np.float32))
        return image, torch.from_numpy(np.array(self.labels[n][where]))


def by_pydicom(paths: list[list[Path]], memmap: Memmap) -> Callable[[int, int], tuple[Any, Any]]:
    """Raw DICOM: a slice by pydicom, its label mapped."""
    import pydicom

    def get(n: int, d: int) -> tuple[Any, Any]:
        ds = pydicom.dcmread(paths[n][d])
        image = ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept)
        return torch.from_numpy(image[None].astype(np.float32)), torch.from_numpy(np.array(memmap.labels[n][d]))

    return get


def loaders(dataset: Any, batch: int, workers: Iterable[int] = (0, 2), **more: Any) -> dict[int, DataLoader]:
    """A DataLoader for each number of workers."""
    return {
        w: DataLoader(dataset, batch, shuffle=True, num_workers=w, persistent_workers=w > 0, **more) for w in workers
    }


def check(
    name: str, batches: Iterable[dict[str, Any]], truth: Callable[..., tuple[Any, Any]], most: int = 10**9
) -> None:
    """Stop if a sample of one epoch is not what the readers give."""
    seen = 0
    for batch in batches:
        for image, label, key in zip(batch["image"], batch["label"], batch["key"], strict=True):
            want_image, want_label = truth(*key.tolist())
            same = np.array_equal(np.asarray(image), want_image) and np.array_equal(np.asarray(label), want_label)
            if not same or image.dtype != torch.float32:
                raise SystemExit(f"{name}: sample {key.tolist()} is not what the readers give")
            seen += 1
        if seen >= most:
            break
    print(f"  equal to the readers: {name}, {seen} samples")


def rate(batches: Callable[[], Iterable[Any]], seconds: float) -> float:
    """Samples per second over whole epochs, after one (or `seconds` of it) that is not timed."""
    start = time.perf_counter()
    for batch in batches():
        del batch
        if time.perf_counter() - start > seconds:
            break
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for batch in batches():
            count += len(batch["image"])
            del batch
    return count / (time.perf_counter() - start)


def compare(tasks: dict[str, Callable[[], Iterable[Any]]], seconds: float, repeats: int) -> dict[str, float]:
    """Median rate of each task; tasks take turns."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    gc.collect()
    gc.freeze()
    for _ in range(repeats):
        for name, task in tasks.items():
            found[name].append(rate(task, seconds))
    return {name: statistics.median(values) for name, values in found.items()}


def show(title: str, rates: dict[str, float], ours: str) -> dict[str, Any]:
    """Print rates, and our rate over the best peer's."""
    print(title)
    peers = {name: value for name, value in rates.items() if not name.startswith("hcc-tace-data")}
    best = max(peers, key=lambda name: peers[name])
    for name, value in sorted(rates.items(), key=lambda item: -item[1]):
        print(f"  {name:<44} {value:9.0f} /s   ours / this {rates[ours] / value:7.2f}")
    print(f"  ours over the best peer ({best}): {rates[ours] / peers[best]:.2f}")
    return {"rates": rates, "best_peer": best, "ratio": rates[ours] / peers[best]}


def renamed(batches: Any, *names: str) -> Iterable[dict[str, Any]]:
    """Our batches with `key` as the peers' have it."""
    for batch in batches:
        columns = [batch[name] if batch[name].ndim > 1 else batch[name][:, None] for name in names]
        yield {"image": batch["image"], "label": batch["label"], "key": torch.cat(columns, dim=1)}


def slices(root: Path, scratch: Path, batch: int, seconds: float, repeats: int) -> dict[str, Any]:
    """2D slices."""
    import monai.data
    from monai.transforms import Compose, EnsureTyped, Lambda

    start = time.perf_counter()
    ds = load_hcc_tace(root, unit="slice", phases="annotated")
    ready = ds.prepared()
    prepared = time.perf_counter() - start
    folders = [source.stored.folder for source in ready.sources]
    paths = [list(case.paths) for case in ready.cases]
    keys = [(n, d) for n, (first, last) in enumerate(ready.ranges) for d in range(first, last)]
    volumes = [read_ct(files) for files in paths]
    labels = [read_labels(c, ready.classes, v)[0] for c, v in zip(ready.cases, volumes, strict=True)]

    def truth(n: int, d: int) -> tuple[Any, Any]:
        return volumes[n].array[None, d].astype(np.float32), labels[n][d]

    memmap = Memmap(folders)
    load = Compose(
        [
            Lambda(
                lambda item: (
                    dict(zip(("image", "label"), memmap.plane(*item["key"]), strict=True))
                    | {"key": torch.tensor(item["key"])}
                )
            )
        ]
    )
    items = [{"key": key} for key in keys]
    cached = monai.data.CacheDataset(items, load, progress=False)
    typed = Compose([load, EnsureTyped(["image", "label"], track_meta=True)])
    usual = monai.data.CacheDataset(items, typed, progress=False)
    kept = monai.data.PersistentDataset(items, load, cache_dir=scratch / "persistent")
    arrow = load_hcc_tace(root, unit="slice", phases="annotated", format="hf", split=None)
    import datasets

    rows = datasets.concatenate_datasets(list(arrow.values()))
    place = {patient: n for n, patient in enumerate(ready.patient_ids)}
    rows_key = [(place[p], d) for p, d in zip(rows["patient_id"], rows["slice"], strict=True)]
    arrays = rows.select_columns(["image", "label"]).with_format("numpy")

    def from_arrow(n: int, d: int) -> tuple[Any, Any]:
        row = arrays[number[n, d]]
        return torch.from_numpy(row["image"][None].astype(np.float32)), torch.from_numpy(row["label"].astype(np.uint8))

    number = {key: i for i, key in enumerate(rows_key)}
    ours = ready.batches(batch)
    started = []
    for _ in range(3):
        start = time.perf_counter()
        fresh = load_hcc_tace(root, unit="slice", phases="annotated")
        for first in fresh.batches(batch):
            started.append(time.perf_counter() - start)
            del first
            break
    peers = {
        "npy memmap, DataLoader": loaders(Slices(keys, memmap.plane), batch),
        "MONAI CacheDataset, MetaTensor": loaders(usual, batch, collate_fn=monai.data.list_data_collate),
        "MONAI CacheDataset, bare tensors": loaders(cached, batch),
        "MONAI PersistentDataset": loaders(kept, batch),
        "Hugging Face arrow, DataLoader": loaders(Slices(keys, from_arrow), batch),
        "raw DICOM by pydicom, DataLoader": loaders(Slices(keys, by_pydicom(paths, memmap)), batch),
    }
    print(f"slices: {len(keys)} of {len(paths)} patients, {volumes[0].array.shape[1:]}")
    check("hcc-tace-data batches", renamed(ours, "case", "slice"), truth)
    direct = Slices(keys, lambda n, d: (s := ds._sample(index[n, d]), (s["image"], s["label"]))[1])
    index = {key: i for i, key in enumerate(keys)}
    check("hcc-tace-data from DICOM, no store", loaders(direct, batch, (0,))[0], truth)
    tasks: dict[str, Callable[[], Iterable[Any]]] = {"hcc-tace-data": lambda: ours}
    whole = ready.batches(batch, dtype=torch.int16)
    tasks["hcc-tace-data, int16"] = lambda: whole
    tasks["hcc-tace-data, from DICOM, no store"] = lambda: loaders(direct, batch, (0,))[0]
    for name, choices in peers.items():
        check(name, choices[0], truth)
        for workers, loader in choices.items():
            tasks[f"{name}, {workers} workers"] = lambda loader=loader: loader
    result = show(f"2D slices, batches of {batch}", compare(tasks, seconds, repeats), "hcc-tace-data")
    result |= {
        "prepare_s": prepared,
        "startup_s": statistics.median(started),
        "bytes": {
            "hcc-tace-data store": folder_bytes(folders),
            "MONAI PersistentDataset": folder_bytes([scratch / "persistent"]),
            "Hugging Face arrow": sum(int(f.stat().st_size) for f in ready.store_folder.glob("hf/**/*.arrow")),
            "DICOM": sum(path.stat().st_size for files in paths for path in files),
        },
    }
    print(f"  start-up to the first batch, store there: {result['startup_s']:.3f} s; preparing: {prepared:.1f} s")
    for name, size in result["bytes"].items():
        print(f"  bytes on disk: {name} {size / 1e6:.0f} MB")
    result["augmented"] = augmented(ready, cached, batch, seconds, repeats)
    return result


def augmented(ready: Any, cached: Any, batch: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Slices with flip, affine, intensity and noise; both draw, so values differ."""
    import monai.data
    from monai.transforms import (
        Compose,
        RandAffined,
        RandFlipd,
        RandGaussianNoised,
        RandScaleIntensityd,
        RandShiftIntensityd,
        ScaleIntensityRanged,
    )

    resident = ready.to_device("cpu")
    ours = resident.batches(batch, window=WINDOW, augment=Augment(flip=0.5))
    change = Compose(
        [
            ScaleIntensityRanged("image", *WINDOW, 0, 1, clip=True),
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=1),
            RandAffined(
                ["image", "label"], prob=1, rotate_range=0.21, scale_range=0.12, translate_range=25,
                mode=["bilinear", "nearest"], padding_mode="border",
            ),
            RandScaleIntensityd("image", 0.15, prob=1),
            RandShiftIntensityd("image", 0.1, prob=1),
            RandGaussianNoised("image", prob=1, std=0.03),
        ]
    )  # fmt: skip

    class Changed(Dataset):
        def __len__(self) -> int:
            return len(cached)

        def __getitem__(self, i: int) -> Any:
            item = cached[i]
            done = change({"image": item["image"], "label": item["label"][None]})
            return {
                name: done[name] if isinstance(done[name], torch.Tensor) else torch.as_tensor(done[name])
                for name in done
            }

    tasks: dict[str, Callable[[], Iterable[Any]]] = {"hcc-tace-data, device slices on the CPU": lambda: ours}
    for workers, loader in loaders(Changed(), batch, collate_fn=monai.data.list_data_collate).items():
        tasks[f"MONAI CacheDataset, {workers} workers"] = lambda loader=loader: loader
    torch.set_num_threads(os.cpu_count() or 1)
    rates = compare(tasks, seconds, repeats)
    torch.set_num_threads(1)
    return show(f"2D slices, augmented, batches of {batch}", rates, "hcc-tace-data, device slices on the CPU")


def patches(root: Path, scratch: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """3D patches."""
    import monai.data
    import torchio as tio
    from monai.transforms import SpatialCrop

    ds = load_hcc_tace(
        root, unit=Patches(size=PATCH, per_volume=PER_VOLUME, foreground=0.5), phases="annotated"
    ).prepared()
    # peers do not pad: only volumes that hold a whole patch
    ds = ds.subset([s.case.patient_id for s in ds.sources if min(s.shape[1:]) >= PATCH])
    folders = [source.stored.folder for source in ds.sources]
    volumes = [read_ct(list(case.paths)) for case in ds.cases]
    labels = [read_labels(c, ds.classes, v)[0] for c, v in zip(ds.cases, volumes, strict=True)]
    keys = [
        (i // PER_VOLUME, *patch_corner(ds.sources[i // PER_VOLUME], ds.patches, sample=i, epoch=0))
        for i in range(len(ds))
    ]

    def truth(n: int, *corner: int) -> tuple[Any, Any]:
        where = tuple(slice(c, c + PATCH) for c in corner)
        return volumes[n].array[where][None].astype(np.float32), labels[n][where]

    memmap = Memmap(folders)
    numbers = [{"n": n} for n in range(len(folders))]

    def load(item: dict[str, int]) -> dict[str, Any]:
        n = item["n"]
        return {
            "image": torch.from_numpy(memmap.images[n].astype(np.float32)),
            "label": torch.from_numpy(np.array(memmap.labels[n]))[None],
        }

    def cropped(source: Any) -> Callable[..., tuple[Any, Any]]:
        def get(n: int, *corner: int) -> tuple[Any, Any]:
            crop, item = SpatialCrop(roi_start=corner, roi_end=[c + PATCH for c in corner]), source[n]
            return torch.as_tensor(crop(item["image"])), torch.as_tensor(crop(item["label"]))[0]

        return get

    cached = monai.data.CacheDataset(numbers, load, progress=False)
    kept = monai.data.PersistentDataset(numbers, load, cache_dir=scratch / "persistent3d")
    subjects = tio.SubjectsDataset(
        [
            tio.Subject(
                image=tio.ScalarImage(tensor=torch.from_numpy(np.array(memmap.images[n]))),
                label=tio.LabelMap(tensor=torch.from_numpy(np.array(memmap.labels[n]))[None]),
                n=n,
            )
            for n in range(len(folders))
        ]
    )

    def queue(workers: int) -> Callable[[], Iterable[Any]]:
        def run() -> Iterable[Any]:
            made = tio.Queue(
                subjects, max_length=PER_VOLUME * len(folders), samples_per_volume=PER_VOLUME,
                sampler=tio.UniformSampler(PATCH), num_workers=workers, shuffle_subjects=True, shuffle_patches=True,
            )  # fmt: skip
            for batch in DataLoader(made, PATCH_BATCH, num_workers=0):
                where = batch[tio.LOCATION][:, :3]
                yield {
                    "image": batch["image"][tio.DATA].float(),
                    "label": batch["label"][tio.DATA][:, 0],
                    "key": torch.cat([batch["n"][:, None], where], dim=1),
                }

        return run

    ours = ds.batches(PATCH_BATCH)
    print(f"patches: {len(ds)} of {len(folders)} patients, {PATCH}^3")
    check("hcc-tace-data batches", renamed(ours, "case", "corner"), truth)
    tasks: dict[str, Callable[[], Iterable[Any]]] = {"hcc-tace-data": lambda: ours}
    whole = ds.batches(PATCH_BATCH, dtype=torch.int16)
    tasks["hcc-tace-data, int16"] = lambda: whole
    for name, get in {
        "npy memmap, DataLoader": memmap.patch,
        "MONAI CacheDataset": cropped(cached),
        "MONAI PersistentDataset": cropped(kept),
    }.items():
        choices = loaders(Slices(keys, get), PATCH_BATCH)
        check(name, choices[0], truth, 8)
        for workers, loader in choices.items():
            tasks[f"{name}, {workers} workers"] = lambda loader=loader: loader
    check("torchio Queue", queue(0)(), truth, 8)
    for workers in (0, 2):
        tasks[f"torchio Queue, {workers} workers"] = queue(workers)
    return show("3D patches", compare(tasks, seconds, repeats), "hcc-tace-data")


def memory(counts: Iterable[int], folder: Path) -> dict[str, dict[str, float]]:
    """Peak private memory of a process that runs an epoch, and mapped pages, over `counts` stored patients."""
    found = {}
    for count in counts:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("supply_memory.py"), str(count), str(folder)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found[str(count)] = json.loads(done.stdout.splitlines()[-1])
        print(f"  {count:3d} patients: peak private memory above the start {found[str(count)]['private_mb']:.0f} MB")
    return found


def main() -> None:
    """Compare, then time, then print."""
    options = rate_options(__doc__, seconds=1.5)
    with tempfile.TemporaryDirectory() as temporary, full_patients(options.root, TEN_PATIENTS) as root:
        scratch = Path(temporary)
        import datasets

        datasets.disable_progress_bars()
        torch.set_num_threads(1)
        print("copies are " + ("compiled" if copies.compiled() else "NumPy's: nothing was compiled at installation"))
        result: dict[str, Any] = {"patches": patches(root, scratch, options.seconds, options.repeats)}
        for batch in BATCHES:
            result[f"slices, {batch}"] = slices(root, scratch, batch, options.seconds, options.repeats)
        print("peak memory")
        result["memory"] = memory((6, 12, 24), scratch / "memory")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
