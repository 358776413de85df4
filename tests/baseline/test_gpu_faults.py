"""What a GPU would meet first, shown without one: devices recorded, forbidden operations refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hcc_tace_data.baseline import bench as bench_module
from hcc_tace_data.baseline import predict, trainer
from hcc_tace_data.baseline.average import WeightAverage
from hcc_tace_data.baseline.bench import bench, gpu_peak
from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.folds import predicted_livers
from hcc_tace_data.baseline.losses import cross_entropy
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.baseline.processes import share_of
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.step import TrainingStep
from hcc_tace_data.baseline.trainer import Trainer
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply import augment, augment_volumes

Quick = Callable[..., TrainConfig]
META = torch.device("meta")


class _Guard(TorchDispatchMode):
    """Refuse operations, or results of a type."""

    def __init__(self, operations: Iterable[str] = (), dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.operations, self.dtype, self.calls = tuple(operations), dtype, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        name = str(func)
        assert not any(word in name for word in self.operations), f"{name} is not for this device"
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            assert not (isinstance(value, torch.Tensor) and value.dtype == self.dtype), f"{name} gives {self.dtype}"
        return result


#: What raises on a GPU when deterministic algorithms are asked for (PyTorch's list), as far as a U-Net could call it.
NOT_DETERMINISTIC = (
    "nll_loss",
    "upsample_bilinear2d_backward",
    "upsample_trilinear3d_backward",
    "max_pool3d_with_indices_backward",
    "replication_pad",
    "reflection_pad",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "grid_sampler_2d_backward",
    "put_",
    "histc",
    "bincount",
    "kthvalue",
    "median",
)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator whose device is `meta`: what is left on the CPU shows."""

    def prepare(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        return model.to(META), optimizer

    engine = SimpleNamespace(
        device=META, num_processes=1, process_index=0, is_main_process=True, scaler=None, prepare=prepare
    )
    monkeypatch.setattr(TrainingStep, "accelerator", staticmethod(lambda config: engine))


def _trainer(config: TrainConfig, cases: list[StoredCase], folder: Path, stage: Any = "liver") -> Trainer:
    return Trainer(config, stage, cases[:4], cases[4:], folder, TrainOptions(threads=0))


@pytest.mark.usefixtures("moved")
def test_the_average_is_where_the_weights_are(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    run = _trainer(quick(), cases, tmp_path)
    assert run.average is not None
    assert {value.device for value in run.average.values.values()} == {META}
    run.average.update(run.step.inner)
    assert {run.average.values[name].device for name in run.step.inner.state_dict()} == {META}


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize("ema", ["0.9", "null"])
def test_validation_is_on_the_device_of_the_training(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: str
) -> None:
    seen: list[torch.device] = []

    def found(model: torch.nn.Module, stage: str, image: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        seen.append(next(model.parameters()).device)
        return torch.zeros(image.shape[1:], dtype=torch.bool)

    run = _trainer(quick(ema=ema), cases, tmp_path)
    monkeypatch.setattr(trainer, "predict_stage", found)
    # weights as they come from a CPU must not decide it either
    assert run._validate({name: torch.zeros(v.shape, dtype=v.dtype) for name, v in run.model.state_dict().items()}) == 0
    assert seen == [META, META]


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize("stage", ["joint", "tumour"])
def test_patches_are_augmented_and_learnt_from_on_the_device(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Any
) -> None:
    run = _trainer(quick("3d"), cases, tmp_path, stage)
    assert {value.device for value in [*run.model.parameters(), *run.average.values.values()]} == {META}  # type: ignore[union-attr]
    drawn: list[torch.device] = []

    def noise(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn.append(image.device)
        return torch.zeros_like(image)

    monkeypatch.setattr(augment_volumes, "noise_like", noise)
    image, target = run.step.inputs(next(run.batches.epoch()))
    assert (image.device, target.device, set(drawn)) == (META, META, {META})
    assert image.shape == (4, 1, 4, 16, 16)


@pytest.mark.usefixtures("moved")
def test_windows_are_predicted_on_the_device_and_gathered_on_the_cpu(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.device, torch.device]] = []

    def windows(inputs: torch.Tensor, *, sw_device: torch.device, device: torch.device, **_: object) -> torch.Tensor:
        assert inputs.device.type == "cpu"  # a whole volume need not fit
        seen.append((sw_device, device))
        return torch.full((1, 3, *inputs.shape[2:]), 1 / 3)

    monkeypatch.setattr("monai.inferers.utils.sliding_window_inference", windows)
    run = _trainer(quick("3d"), cases, tmp_path, "joint")
    weights = {name: torch.zeros(v.shape, dtype=v.dtype) for name, v in run.model.state_dict().items()}
    assert run._validate(weights) < 1
    assert seen == [(META, torch.device("cpu"))] * 2


def test_a_cascade_is_read_onto_the_default_device(
    trained: Path, cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "default_device", lambda: "meta")
    cascade = Cascade.load_folds(trained)
    assert {p.device for network in (*cascade.liver, *cascade.tumour) for p in network.parameters()} == {META}
    pair = [trained / "fold0" / stage / "best.safetensors" for stage in ("liver", "tumour")]
    assert next(Cascade.load(pair[0], pair[1]).tumour[0].parameters()).device == META
    assert next(Cascade.load(pair[0], pair[1], device="cpu").tumour[0].parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("preset", "stage"), [*product(("paper", "modern"), ("liver", "tumour")), ("3d", "joint"), ("3d", "tumour")]
)
def test_a_training_calls_nothing_that_has_no_deterministic_form(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, preset: str, stage: Any
) -> None:
    run = _trainer(quick(preset, epochs=1, model__deep_supervision=True), cases, tmp_path, stage)
    batch = next(run.batches.epoch())
    image, target = run.step.inputs(batch)  # without gradients
    run.step.network.train()
    with _Guard(NOT_DETERMINISTIC) as guard:
        run.step.learn(image, target)
    assert guard.calls > 100


@pytest.mark.parametrize(("preset", "stage"), [("paper", "liver"), ("modern", "liver"), ("3d", "joint")])
def test_a_training_needs_no_double_precision(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, preset: str, stage: Any
) -> None:
    """Apple's GPUs have none."""
    run = _trainer(quick(preset, epochs=2, max_steps=3), cases, tmp_path, stage)
    with _Guard(dtype=torch.float64) as guard:
        run.go(None)
    assert guard.calls > 100
    assert run.steps == 3


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_cross_entropy_is_that_of_pytorch(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 10 * torch.randn(2, classes, 5, 3, generator=generator)
    label = torch.randint(0, classes, (2, 5, 3), generator=generator)
    own, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    cross_entropy(own, label).backward()
    expected = torch.nn.functional.cross_entropy(other, label)
    expected.backward()
    torch.testing.assert_close(cross_entropy(logits, label), expected.detach())
    torch.testing.assert_close(own.grad, other.grad)


def test_noise_is_drawn_where_the_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[torch.device, int]] = []

    class Elsewhere:
        def __init__(self, device: torch.device) -> None:
            assert device == META

        def manual_seed(self, seed: int) -> int:
            return seed

    def randn(shape: tuple[int, ...], *, generator: int, device: torch.device) -> torch.Tensor:
        drawn.append((device, generator))
        return torch.empty(shape, device=device)

    on_cpu = torch.Generator().manual_seed(4)
    same = augment.noise_like(torch.zeros(3, 4), torch.Generator().manual_seed(4))
    assert torch.equal(same, torch.randn(3, 4, generator=torch.Generator().manual_seed(4)))
    monkeypatch.setattr(augment.torch, "Generator", Elsewhere)
    monkeypatch.setattr(augment.torch, "randn", randn)
    image = torch.zeros(2, 1, 8, 8, device=META)
    for _ in range(2):
        assert augment.noise_like(image, on_cpu).device == META
    assert [device for device, _ in drawn] == [META, META]
    assert drawn[0][1] != drawn[1][1]  # the given generator moves on


def test_bench_times_the_loop_that_trains(
    cases: list[StoredCase], quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    class Recorded(Trainer):
        def epoch(self) -> Any:
            for loss in super().epoch():
                calls.append("step")
                yield loss

    def update(self: WeightAverage, model: torch.nn.Module) -> None:
        calls.append("average")

    monkeypatch.setattr(bench_module, "Trainer", Recorded)
    monkeypatch.setattr(WeightAverage, "update", update)
    found = bench(quick(batch_size=3), cases, steps=9, rounds=2, threads=0)
    assert calls == ["average", "step"] * 18
    assert found["images_per_second"]["both"] > 0


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H200", "bf16", 989.0),
        ("NVIDIA H200 NVL", "bf16", 835.0),
        ("NVIDIA H100 80GB HBM3", "fp16", 989.0),
        ("NVIDIA H100 PCIe", "fp16", 756.0),
        ("NVIDIA A100-SXM4-80GB", "no", 156.0),
        ("Tesla V100-PCIE-32GB", "fp16", 112.0),
        ("Tesla T4", "fp16", 65.0),
        ("Tesla T4", "bf16", None),
        ("NVIDIA T400", "fp16", None),
        ("NVIDIA T400 4GB", "no", None),
        ("NVIDIA GeForce RTX 4090", "no", None),
    ],
)
def test_peaks_belong_to_whole_words(name: str, precision: str, peak: float | None) -> None:
    assert gpu_peak(name, precision) == peak


@given(st.lists(st.integers(1, 500), max_size=30), st.integers(1, 6))
def test_shares_hold_each_task_once_and_take_about_as_long(sizes: list[int], count: int) -> None:
    shares = [share_of(sizes, number, count) for number in range(count)]
    assert sorted(index for share in shares for index in share) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


_TWO = """
import hashlib, json, pickle, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from hcc_tace_data.baseline import trainer
from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.folds import predicted_livers
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.processes import leave, one_after_the_other, rank

whole = trainer._case_dice
for stage, folder in ((stage, Path(sys.argv[1], stage)) for stage in sys.argv[2:]):
    with one_after_the_other():
        order = sorted(path.name for path in folder.glob("turn*"))
        (folder / f"turn{rank()}").touch()
    config = TrainConfig.model_validate_json((folder / "config.json").read_text())
    cases = pickle.loads((folder / "cases.pickle").read_bytes())
    scored = []
    trainer._case_dice = lambda *a, **k: scored.append(1) or whole(*a, **k)
    run = trainer.Trainer(config, stage, cases[:2], cases[2:], folder / "run", TrainOptions(threads=0))
    run.go(None)
    digest = hashlib.sha256()
    for values in (run.step.inner.state_dict(), run.average.values):
        for name, value in sorted(values.items()):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    livers = predicted_livers(folder / "run" / "best.safetensors", cases, stage)
    found = hashlib.sha256(b"".join(livers[c.folder.name].tobytes() for c in cases)).hexdigest()
    said = {"before": order, "state": digest.hexdigest(), "scored": len(scored), "livers": found,
            "dice": run.history[-1]["dice"], "loss": run.history[-1]["loss"]}
    (folder / f"said{rank()}.json").write_text(json.dumps(said))
leave()
assert not torch.distributed.is_initialized()
"""


_TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"]


def test_two_processes_end_with_one_network_and_share_what_follows(
    cases: list[StoredCase], quick: Quick, tmp_path: Path
) -> None:
    """Weights, statistics and their average are equal; validation and prediction are done once, by halves.

    A network of slices and one of volumes, one after the other: starting the processes takes longer than both.
    """
    script = tmp_path / "two.py"
    script.write_text(_TWO, encoding="utf-8")
    stages: dict[Stage, str] = {"liver": "modern", "joint": "3d"}
    for stage, preset in stages.items():
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "cases.pickle").write_bytes(pickle.dumps(cases))
        more = {"input__patches__per_volume": 4} if preset == "3d" else {}
        config = quick(preset, epochs=1, max_steps=2, batch_size=2, **more)
        (tmp_path / stage / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, *_TORCHRUN, str(script), str(tmp_path), *stages],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for stage in stages:
        folder = tmp_path / stage
        first, second = (json.loads((folder / f"said{rank}.json").read_text()) for rank in range(2))
        assert (first.pop("before"), second.pop("before")) == ([], ["turn0"])
        assert first == second
        assert first["scored"] == 2  # of four patients
        whole = predicted_livers(folder / "run" / "best.safetensors", cases, stage)
        joined = b"".join(whole[case.folder.name].tobytes() for case in cases)
        assert hashlib.sha256(joined).hexdigest() == first["livers"]
        model, config = predict.load_model(folder / "run" / "best.safetensors", stage)
        scores = [trainer._case_dice(model, config, stage, case) for case in cases[2:]]
        assert first["dice"] == pytest.approx(np.mean(scores))
