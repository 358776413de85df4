"""Peak private memory of an epoch over made-up stored patients; run by supply.py in a process of its own.

python benchmarks/supply_memory.py PATIENTS FOLDER
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path

import numpy as np

from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoreParameters
from hcc_tace_data.loaders.supply.batches import BatchIterator

BATCH = 32


def measure_memory(count: int, folder: Path) -> None:
    """Run an epoch over `count` made-up patients of 80 slices, and print how the private memory grew."""
    store = Store(folder, StoreParameters(classes={1: ("liver",)}))
    file = folder / "source.dcm"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_bytes(b"0")
    stored = []
    for number in range(count):
        case = Case(
            patient_id=f"HCC_{number:03d}", study_uid="1", series_uid=f"1.{number}", phases=("annotated",),
            paths=(file,), segmentation=file,
        )  # fmt: skip
        found = store.find(case)
        if found is None:
            rng = np.random.default_rng(number)
            image = rng.integers(-1000, 1000, (80, 512, 512), dtype=np.int16)
            arrays = CaseArrays(
                image=image, label=(image > 900).astype(np.uint8), spacing=np.ones(3), affine=np.eye(4)
            )  # fmt: skip
            found = store.write(case, arrays)
        stored.append(found)
    gc.collect()

    def private() -> int:
        text = Path("/proc/self/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("RssAnon")).split()[1])

    start, peak, over = private(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, private())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for batch in BatchIterator(stored, [(0, 80)] * count, batch_size=BATCH):
        del batch
    over.set()
    watcher.join()
    print(json.dumps({"private_mb": (peak - start) / 1000}))


if __name__ == "__main__":
    measure_memory(int(sys.argv[1]), Path(sys.argv[2]))
