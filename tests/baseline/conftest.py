"""Stored cases with a bright liver and a darker tumour in it: easy to learn in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.cli.main import main
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters

PARAMETERS = StoreParameters(classes={1: ("liver",), 3: ("portal_vein",), 4: ("aorta",), 2: ("tumour",)})
SIDE, DEPTH = 32, 6
#: What makes the 3D network train in seconds, besides its widths.
TINY_3D = ["model.blocks=[1,1]", "input.patches.size=[4,16,16]", "input.patches.per_volume=2", "validate_every=1"]
TINY_3D += ["optimizer.name=adamw", "optimizer.lr=0.01"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks lose more by handing work to threads than they win, all the more beside other test workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _arrays(number: int) -> CaseArrays:
    rng = np.random.default_rng(number)
    d, h, w = np.mgrid[:DEPTH, :SIDE, :SIDE]
    label = np.zeros((DEPTH, SIDE, SIDE), np.uint8)
    centre = rng.integers(13, 19, 2)
    label[(h - centre[0]) ** 2 + (w - centre[1]) ** 2 < 81] = 1
    label[(h - centre[0]) ** 2 + (w - centre[1] - 3) ** 2 + (d - 3) ** 2 < 14] = 2
    label[0], label[-1] = 0, 0
    hu = np.choose(label, [0, 110, 40, 110, 110]) + rng.normal(0, 8, label.shape)
    return CaseArrays(
        image=hu.astype(np.int16),
        label=label,
        spacing=np.array([2.5, 0.8, 0.8]),
        affine=np.diag([2.5, 0.8, 0.8, 1.0]),
    )


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Six patients."""
    store, stored = Store(tmp_path / "store", PARAMETERS), []
    for number in range(6):
        source = tmp_path / f"{number}.dcm"
        source.write_bytes(b"source")
        case = Case(
            patient_id=f"HCC_{number:03d}",
            study_uid=f"1.2.{number}",
            series_uid=f"1.2.{number}.1",
            phases=("portal_venous",),
            paths=(source,),
            segmentation=source,
        )
        stored.append(store.write(case, _arrays(number)))
    return stored


@pytest.fixture
def quick() -> Callable[..., TrainConfig]:
    """Return a function that makes a small configuration; keyword arguments are overrides."""

    def make(preset: str = "modern", **overrides: object) -> TrainConfig:
        small = ["model.widths=[8,16]", "batch_size=4", "epochs=4", "schedule.warmup_steps=2", "ema=0.9"]
        small += ["input.phases=[annotated]"]  # as the cases above
        small += TINY_3D if preset == "3d" else []
        return load_config(preset, [*small, *(f"{k.replace('__', '.')}={v}" for k, v in overrides.items())])

    return make


#: A network that trains in seconds on a tiny twin.
TINY = ["model.widths=[8,16]", "batch_size=8", "optimizer.lr=0.01", "max_steps=40", "ema=null", "augment=false"]
TINY += ["validate_every=2", "input.phases=[annotated]"]


@pytest.fixture(scope="session")
def trained(small_twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run on the tiny twin: both stages of fold 0, by the command."""
    out = tmp_path_factory.mktemp("run")
    words = ["baseline", "train", str(small_twin), "--out", str(out), "--preset", "modern", "--quiet"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main([*words, *(word for key in TINY for word in ("--set", key))]) == 0
    torch.set_num_threads(before)
    return out
