"""Checks of the reference baseline on one GPU, in at most ten minutes: one JSON line per check.

Run it with a CUDA device, or with ``--cpu`` to run on tiny sizes everything that needs no GPU. The exit code is 1 if
any check fails. Each line holds ``check``, ``status`` (passed, failed, skipped), ``seconds``, and what was measured.
Speed targets are estimates: they were set before any GPU had been tried. On a CPU speeds are reported, not judged.

    python examples/gpu_acceptance.py [--cpu] [--only NAME ...] [--minutes 10]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.baseline.bench import bench, gpu_peak
from hcc_tace_data.baseline.checkpoint import load_state, load_weights
from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.baseline.cost import dummy_batch, estimate_cost, make_step
from hcc_tace_data.baseline.data import Cohort, held_out, load_cohort, part_of
from hcc_tace_data.baseline.folds import overfit_one_batch
from hcc_tace_data.baseline.losses import segmentation_loss
from hcc_tace_data.baseline.networks import build_model
from hcc_tace_data.baseline.options import ReproduceRequest, TrainOptions
from hcc_tace_data.baseline.predict import Cascade, predict_probability
from hcc_tace_data.baseline.processes import leave
from hcc_tace_data.baseline.reproduce import reproduce
from hcc_tace_data.baseline.stages import STAGES, Stage
from hcc_tace_data.baseline.train import train_stage
from hcc_tace_data.baseline.trainer import Trainer
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters

#: Of a network that trains in seconds, of one phase: nothing is registered here.
SMALL = ("model.widths=[8,16]", "batch_size=4", "optimizer.lr=0.01", "schedule.warmup_steps=2")
SMALL += ("input.phases=[annotated]",)
#: And what a 3D one needs besides.
SMALL_3D = ("model.blocks=[1,1]", "input.patches.size=[4,32,32]", "input.patches.per_volume=2")
SMALL_3D += ("input.patches.overlap=0", "optimizer.name=adamw", "validate_every=1")
#: Presets and stages that are trained here.
NETWORKS: tuple[tuple[str, Stage], ...] = (
    *((preset, stage) for preset in ("paper", "modern") for stage in STAGES),
    ("3d", "joint"),
    ("3d", "tumour"),
)
_SECONDS_PER_MINUTE = 60


class Failed(Exception):
    """A check that did not hold, with what was measured."""

    def __init__(self, why: str, **found: Any) -> None:
        super().__init__(why)
        self.found = found


class Skipped(Exception):
    """A check that this machine cannot run."""


@dataclass
class Bench:
    """What the checks share: the device, a folder, and data made on first use."""

    device: torch.device
    work: Path
    #: Digest of the weights of an uninterrupted deterministic training, by network.
    whole: dict[str, str] = field(default_factory=dict)

    @property
    def gpu(self) -> bool:
        """Whether there is a GPU to judge."""
        return self.device.type == "cuda"

    @cached_property
    def root(self) -> Path:
        """A tiny twin: one patient of the test set and of three folds."""
        patients = [patients_of("test")[0], *(patients_of("validation", fold)[0] for fold in range(3))]
        return make_phantom(self.work / "twin", patients=patients, size="tiny", workers=1)

    @cached_property
    def cohort(self) -> Cohort:
        """The twin, stored for training."""
        return load_cohort(open_collection(self.root), cache=self.work / "cache", workers=1)

    @cached_property
    def development(self) -> tuple[list[StoredCase], list[StoredCase]]:
        """Training and validation patients of fold 0."""
        part = part_of(self.cohort, 0)
        return list(part.train), list(part.validation)

    @cached_property
    def side(self) -> int:
        """Rows and columns of an image of full size."""
        return 512 if self.gpu else 32

    @cached_property
    def large(self) -> StoredCase:
        """A case of the size of a real one, stored."""
        depth, side = (90, self.side) if self.gpu else (6, self.side)
        rng = np.random.default_rng(0)
        label = np.zeros((depth, side, side), np.uint8)
        label[1:-1, side // 4 : 3 * side // 4, side // 8 : 3 * side // 4] = 1
        label[2:-2, side // 3 : side // 2, side // 3 : side // 2] = 2
        image = (np.choose(label, [0, 110, 40]) + rng.normal(0, 10, label.shape)).astype(np.int16)
        arrays = CaseArrays(
            image=image, label=label, spacing=np.array([2.5, 0.8, 0.8]), affine=np.diag([2.5, 0.8, 0.8, 1.0])
        )
        source = self.work / "large.dcm"
        source.write_bytes(b"source")
        case = Case(
            patient_id="HCC_000",
            study_uid="1.2.3",
            series_uid="1.2.3.1",
            phases=("portal_venous",),
            paths=(source,),
            segmentation=source,
        )
        classes: dict[int, tuple[str, ...]] = {
            1: ("liver",),
            3: ("portal_vein",),
            4: ("aorta",),
            2: ("tumour",),
        }
        return Store(self.work / "large", StoreParameters(classes=classes)).write(case, arrays)

    def small(self, preset: str = "modern", *more: str) -> TrainConfig:
        """Return a configuration that trains in seconds."""
        own = {"paper": ("optimizer.lr=1.0",), "3d": SMALL_3D}  # the former is Adadelta's
        return load_config(preset, [*SMALL, *own.get(preset, ()), *more])

    def expect(self, held: bool, why: str, **found: Any) -> dict[str, Any]:
        """Return what was measured if it holds."""
        if not held:
            raise Failed(why, **found)
        return found

    def target(self, held: bool, why: str, **found: Any) -> dict[str, Any]:
        """As :meth:`expect`, of speeds: on a CPU they are reported and not judged."""
        return self.expect(held or not self.gpu, why, **found)

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.gpu:
            torch.cuda.synchronize()


def check_devices(bench: Bench) -> dict[str, Any]:
    """Weights, average, optimiser, validation and cascade are on the device, of slices and of volumes."""
    networks = Cascade.load_folds(_both_stages(bench))
    found = {
        **_devices_of(bench, "modern", "liver"),
        **_devices_of(bench, "3d", "joint"),
        "cascade": _types(p for network in (*networks.liver, *networks.tumour) for p in network.parameters()),
    }
    return bench.expect(
        all(types == [bench.device.type] for types in found.values()), f"not all on {bench.device.type}", **found
    )


def _devices_of(bench: Bench, preset: str, stage: Stage) -> dict[str, list[str]]:
    """Train a few steps and validate; return what was used -> types of the devices where it was."""
    train, validation = bench.development
    config = bench.small(preset, "epochs=1", "max_steps=3", "ema=0.9")
    folder = bench.work / f"devices-{preset}"
    trainer = Trainer(config, stage, train, validation, folder, TrainOptions(threads=1))
    used: set[str] = set()

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        used.update(str(p.device.type) for p in module.parameters(recurse=False))
        used.update(str(value.device.type) for value in inputs if isinstance(value, Tensor))

    handle = nn.modules.module.register_module_forward_pre_hook(record)
    try:
        trainer.go(None)  # the last epoch ends with validation
    finally:
        handle.remove()
    moments = [v for state in trainer.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    average = [] if trainer.average is None else [trainer.average.values[name] for name in trainer.model.state_dict()]
    return {
        f"{preset} forward": sorted(used),
        f"{preset} weights": _types(trainer.step.inner.parameters()),
        f"{preset} average": _types(average),
        # AdamW counts its steps on the CPU
        f"{preset} optimizer": _types(value for value in moments if value.ndim),
    }


def _types(values: Any) -> list[str]:
    return sorted({value.device.type for value in values})


def _both_stages(bench: Bench) -> Path:
    """Return a folder with both networks of a fold."""
    out = bench.work / "both"
    if not out.exists():
        for stage in STAGES:
            config = bench.small("modern", "epochs=1", "max_steps=2", "ema=null")
            train, validation = bench.development
            train_stage(config, stage, train, validation, out / "fold0" / stage)
    return out


def check_precisions(bench: Bench) -> dict[str, Any]:
    """The loss of one step equals the CPU's: fp32 without TF32 to 1e-4, bf16 and fp16 to 1e-2; so do fp32 gradients."""
    found: dict[str, Any] = {}
    side = 256 if bench.gpu else bench.side
    with _without_tf32():
        for precision in ("no", "bf16", "fp16"):
            if precision == "fp16" and not bench.gpu:
                continue
            keys = (f"precision={precision}", "augment=false", "model.dropout=0")
            for preset, stage in (("modern", "liver"), ("modern", "tumour"), ("3d", "joint")):
                # a 3D step of full size takes a CPU too long
                whole = bench.gpu and preset == "modern"
                config = load_config(preset, keys) if whole else bench.small(preset, *keys)
                step = make_step(config, stage, 1)
                torch.manual_seed(config.seed)
                model = build_model(config, 1, stage).train()
                image, target = step.inputs(dummy_batch(config, 1, side))
                computed = segmentation_loss(model(image.cpu()), target.cpu(), config.loss)
                computed.backward()  # type: ignore[no-untyped-call]  # torch's stubs lack it
                loss, expected = step.learn(image, target), float(computed.detach())
                name = f"{preset} {stage} {precision}"
                found[name] = {"loss": loss, "difference": abs(loss - expected)}
                if precision == "no":
                    own, other = (
                        torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None])
                        for net in (step.inner, model)
                    )
                    found[name]["gradients"] = float(nn.functional.cosine_similarity(own, other, dim=0))
    held = all(
        row["difference"] <= (1e-4 if name.endswith(" no") else 1e-2) and row.get("gradients", 1) >= 0.999
        for name, row in found.items()
    )
    return bench.expect(held, "differs from the CPU", **found)


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def check_fp16(bench: Bench) -> dict[str, Any]:
    """A hundred fp16 steps stay finite, and the scaler is saved with the state."""
    if not bench.gpu:
        raise Skipped("fp16 needs a GPU")
    train, validation = bench.development
    config = bench.small("modern", "precision=fp16", "max_steps=100", "epochs=100")
    folder = bench.work / "fp16"
    result = train_stage(config, "liver", train, validation, folder)
    scaler = load_state(folder / "state.pt")["scaler"]
    finite = bool(np.isfinite(result.losses).all())
    held = finite and result.steps == 100 and bool(scaler)
    return bench.expect(held, "losses or scaler", steps=result.steps, last_loss=result.losses[-1], scaler=bool(scaler))


def check_step(bench: Bench) -> dict[str, Any]:
    """A step at full size in TF32, in bf16 with channels last, and compiled, with its share of the GPU's peak."""
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    variants = {
        "tf32": (),
        "bf16": ("precision=bf16", "channels_last=true"),
        "compiled": ("precision=bf16", "channels_last=true", "compile=inductor" if bench.gpu else "compile=aot_eager"),
    }
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        for name, keys in variants.items():
            config = load_config("modern", keys) if bench.gpu else bench.small("modern", *keys)
            step = make_step(config, "liver", 1)
            image, target = step.inputs(dummy_batch(config, 1, bench.side))
            if bench.gpu:
                torch.cuda.reset_peak_memory_stats()
            for _ in range(3 if bench.gpu else 1):
                step.learn(image, target)
            times = []
            for _ in range(10 if bench.gpu else 2):
                bench.wait()
                start = time.perf_counter()
                step.learn(image, target)
                bench.wait()
                times.append(time.perf_counter() - start)
            seconds[name] = float(np.median(times))
            cost = estimate_cost(config, 1, bench.side)
            row: dict[str, Any] = {"seconds": round(seconds[name], 5), "tflops": cost.flops / seconds[name] / 1e12}
            if bench.gpu:
                peak = gpu_peak(torch.cuda.get_device_name(), config.precision)
                row["share_of_peak"] = round(row["tflops"] / peak, 4) if peak else None
                row["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
                row["estimated_memory_gb"] = round(cost.memory_bytes / 1e9, 2)
            found[name] = row
            del step
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    # 2 % for noise
    return bench.target(seconds["compiled"] <= 1.02 * seconds["bf16"], "compiled is slower than eager", **found)


def check_step_3d(bench: Bench) -> dict[str, Any]:
    """A step of the 3D network at full size, two patches of 64 x 192 x 192, in bf16: time, memory, share of peak."""
    keys = ("precision=bf16",)
    config = load_config("3d", keys) if bench.gpu else bench.small("3d", *keys)
    step = make_step(config, "joint", 1)
    batch = dummy_batch(config, 1, bench.side)
    if bench.gpu:
        torch.cuda.reset_peak_memory_stats()
    losses = [step(batch)]  # chooses algorithms
    image, target = step.inputs(batch)
    times = {"step": [], "step_and_augmentation": []}  # type: dict[str, list[float]]
    for _ in range(5 if bench.gpu else 1):
        for name, task in (("step", lambda: step.learn(image, target)), ("step_and_augmentation", lambda: step(batch))):
            bench.wait()
            start = time.perf_counter()
            losses.append(task())
            bench.wait()
            times[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    cost = estimate_cost(config, 1, bench.side)
    found: dict[str, Any] = {name: round(value, 4) for name, value in seconds.items()}
    found |= {"patch": list(image.shape), "tflops": cost.flops / seconds["step"] / 1e12, "losses": losses}
    if bench.gpu:
        peak = gpu_peak(torch.cuda.get_device_name(), "bf16")
        found["share_of_peak"] = round(found["tflops"] / peak, 4) if peak else None
        found["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found["estimated_memory_gb"] = round(cost.memory_bytes / 1e9, 2)
    return bench.expect(bool(np.isfinite(losses).all()), "a loss is not a number", **found)


def check_loop(bench: Bench) -> dict[str, Any]:
    """The whole training loop costs at most 1.10 times the step with resident slices, 1.15 times with streamed ones."""
    found: dict[str, Any] = {}
    held = True
    for resident, most in (("yes", 1.10), ("no", 1.15)):
        keys = (f"resident={resident}",)
        config = load_config("modern", keys) if bench.gpu else bench.small("modern", *keys)
        if bench.gpu:
            torch.cuda.reset_peak_memory_stats()
        steps, rounds = (6, 5) if bench.gpu else (2, 1)
        row = bench_of(config, bench.large, steps, rounds)
        if bench.gpu:
            row["peak_memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found["resident" if resident == "yes" else "streamed"] = {**row, "at_most": most}
        held &= row["ratio"] <= most
    return bench.target(held, "the loop costs too much beside the step", **found)


def bench_of(config: TrainConfig, case: StoredCase, steps: int, rounds: int) -> dict[str, Any]:
    """Return the essentials of :func:`hcc_tace_data.baseline.bench.bench`."""
    found = bench(config, [case], steps=steps, rounds=rounds, threads=4)
    return {key: found[key] for key in ("ratio", "images_per_second", "share_of_peak")}


def check_validation(bench: Bench) -> dict[str, Any]:
    """Validation of 17 patients of 90 slices takes at most 20 seconds, saving included."""
    config = load_config("modern", ["batch_size=2"]) if bench.gpu else bench.small()
    config = config.model_copy(update={"max_steps": 1, "epochs": 1})
    patients = 17 if bench.gpu else 2
    trainer = Trainer(
        config, "liver", [bench.large], [bench.large] * patients, bench.work / "validation", TrainOptions(threads=1)
    )
    start = time.perf_counter()
    trainer.go(None)
    bench.wait()
    seconds = time.perf_counter() - start - trainer.history[-1]["seconds"]
    slices = bench.large.shape[1]
    return bench.target(
        seconds <= 20, "validation is too slow", patients=patients, slices=slices, validation_seconds=round(seconds, 2)
    )


def check_deterministic(bench: Bench) -> dict[str, Any]:
    """Two deterministic trainings of each stage and preset end with the same weights."""
    return _same_weights(bench, "deterministic", None)


def check_resume(bench: Bench) -> dict[str, Any]:
    """A stopped and resumed training ends with the weights of an uninterrupted one."""
    return _same_weights(bench, "resume", 1)


def _same_weights(bench: Bench, name: str, stop: int | None) -> dict[str, Any]:
    train, validation = bench.development
    found: dict[str, Any] = {}
    for preset, stage in NETWORKS if bench.gpu else NETWORKS[2:5]:
        config = bench.small(preset, "epochs=2", "max_steps=8")
        key = f"{preset} {stage}"
        if key not in bench.whole:  # both checks compare with the same training
            folder = bench.work / f"whole-{preset}-{stage}"
            train_stage(config, stage, train, validation, folder, TrainOptions(deterministic=True))
            bench.whole[key] = _digest(folder / "last.safetensors")
        folder = bench.work / f"{name}-{preset}-{stage}"
        train_stage(config, stage, train, validation, folder, TrainOptions(deterministic=True, stop_after=stop))
        if stop is not None:
            train_stage(config, stage, train, validation, folder, TrainOptions(deterministic=True, resume=True))
        found[key] = [bench.whole[key], _digest(folder / "last.safetensors")]
    return bench.expect(all(len(set(pair)) == 1 for pair in found.values()), "weights differ", **found)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(load_weights(path)[0].items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:16]


def check_processes(bench: Bench) -> dict[str, Any]:
    """A training under torchrun: one NCCL process on a GPU, two gloo processes on a CPU."""
    count = 1 if bench.gpu else 2
    folder = bench.work / "processes"
    folder.mkdir()
    train, validation = bench.development
    places = [[str(case.folder) for case in part] for part in (train, validation)]
    (folder / "cases.json").write_text(json.dumps(places), encoding="utf-8")
    command = ["-m", "torch.distributed.run", f"--nproc_per_node={count}", "--rdzv_backend=c10d"]
    done = subprocess.run(
        [sys.executable, *command, "--rdzv_endpoint=127.0.0.1:0", __file__, "--worker", str(folder)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise Failed("torchrun failed", stderr=done.stderr[-2000:])
    said = [json.loads((folder / f"said{rank}.json").read_text(encoding="utf-8")) for rank in range(count)]
    wanted = {"backend": "nccl" if bench.gpu else "gloo", "device": bench.device.type, "steps": 3}
    held = all({key: one[key] for key in wanted} == wanted for one in said)
    held &= len({one["weights"] for one in said}) == 1
    return bench.expect(held, "backend, device or weights", processes=said)


def worker(folder: Path) -> None:
    """Train in one of several processes, and write down how it went."""
    from hcc_tace_data.loaders.store import read_record

    train, validation = (
        [read_record(Path(place)) for place in part]
        for part in json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    )
    config = load_config("modern", [*SMALL, "batch_size=2", "max_steps=3", "epochs=1"])
    trainer = Trainer(config, "liver", train, validation, folder / "run", TrainOptions(threads=1))
    trainer.go(None)
    digest = hashlib.sha256()
    for _, value in sorted(trainer.step.inner.state_dict().items()):
        digest.update(value.cpu().numpy().tobytes())
    said = {
        "backend": torch.distributed.get_backend(),
        "device": trainer.engine.device.type,
        "steps": trainer.steps,
        "weights": digest.hexdigest()[:16],
    }
    (folder / f"said{trainer.engine.process_index}.json").write_text(json.dumps(said), encoding="utf-8")
    leave()


def check_overfit(bench: Bench) -> dict[str, Any]:
    """All stages of all presets learn one batch: Dice at least 0.9."""
    train = bench.development[0] if bench.gpu else [bench.large]
    found: dict[str, Any] = {}
    for preset, stage in NETWORKS:
        result = overfit_one_batch(bench.small(preset), stage, train, steps=200 if bench.gpu else 100)
        found[f"{preset} {stage}"] = round(result["dice"], 4)
    return bench.expect(min(found.values()) >= 0.9, "a batch was not learned", **found)


def check_reproduce(bench: Bench) -> dict[str, Any]:
    """A whole reproduction on a tiny twin: labels equal the CPU's, and training takes the planned time."""
    steps = 60 if bench.gpu else 6
    out = bench.work / "reproduce"
    request = ReproduceRequest(config=bench.small("modern", "ema=null"), folds=(0,), steps=steps, control=False)
    report = reproduce(open_collection(bench.root), out, request, cache=bench.work / "cache", workers=1)
    plan = report["plan"]
    planned = sum(plan["steps"][stage] * plan["estimate"]["seconds_per_step"][stage] for stage in STAGES)
    states = [load_state(out / "fold0" / stage / "state.pt") for stage in STAGES]
    took = sum(row["seconds"] for state in states for row in state["history"])
    found: dict[str, Any] = {"planned_seconds": round(planned, 2), "took_seconds": round(took, 2)}
    (case,) = held_out(bench.cohort)
    image = torch.from_numpy(np.array(case.image))
    liver = torch.from_numpy(np.isin(case.label, (1, 2, 3)))
    pair = [Cascade.load_folds(out, [0], device=device) for device in (bench.device, "cpu")]
    with _without_tf32():
        for stage in STAGES:  # without the largest component: after few steps there may be none
            here, there = (
                predict_probability(getattr(one, stage)[0], stage, image, request.config.input, liver=liver)
                for one in pair
            )
            found[stage] = dice((here > 0.5).numpy(), (there > 0.5).numpy())
            found[f"{stage}_probability_difference"] = float((here - there).abs().max())
    held = min(found["tumour"], found["liver"]) >= 0.999
    bench.expect(held, "labels differ from the CPU's", **found)
    return bench.target(abs(took / planned - 1) <= 0.3, "training did not take the planned time", **found)


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    name.removeprefix("check_"): function for name, function in list(globals().items()) if name.startswith("check_")
}


def run_check(name: str, bench: Bench) -> dict[str, Any]:
    """Run a check and return its line."""
    start = time.monotonic()
    try:
        row = {"status": "passed", **CHECKS[name](bench)}
    except Skipped as reason:
        row = {"status": "skipped", "reason": str(reason)}
    except Failed as failure:
        row = {"status": "failed", "reason": str(failure), **failure.found}
    except Exception as error:
        row = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {"check": name, **row, "seconds": round(time.monotonic() - start, 2)}


def _say(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


def _stop_after(minutes: float) -> threading.Timer:
    """End the program when the time is up, whatever it waits for."""

    def stop() -> None:
        _say({"check": "time", "status": "failed", "reason": f"not finished after {minutes} minutes"})
        os._exit(1)

    timer = threading.Timer(minutes * _SECONDS_PER_MINUTE, stop)
    timer.daemon = True
    timer.start()
    return timer


def main(words: Sequence[str] | None = None) -> int:
    """Run the checks; return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cpu", action="store_true", help="run on tiny sizes what needs no GPU")
    parser.add_argument("--only", nargs="+", choices=sorted(CHECKS), default=list(CHECKS), help="checks to run")
    parser.add_argument("--minutes", type=float, default=10, help="give up after this time (default 10)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(words)
    if chosen.worker is not None:
        worker(chosen.worker)
        return 0
    if chosen.cpu and torch.cuda.is_available():
        parser.error("--cpu on a machine with a GPU: hide it first (CUDA_VISIBLE_DEVICES= python ...).")
    if not chosen.cpu and not torch.cuda.is_available():
        _say({"check": "device", "status": "failed", "reason": "no CUDA device; --cpu runs what needs none"})
        return 1
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, before the first product of matrices
    timer = _stop_after(chosen.minutes)
    device = torch.device("cpu" if chosen.cpu else "cuda:0")
    name = "CPU" if chosen.cpu else torch.cuda.get_device_name()
    _say({"check": "device", "status": "passed", "device": name, "torch": torch.__version__})
    failed = 0
    with TemporaryDirectory() as folder:
        # What the compiler and torchrun put down goes with the folder.
        os.environ.update(TORCHINDUCTOR_CACHE_DIR=str(Path(folder) / "compiled"), TMPDIR=folder)
        bench = Bench(device, Path(folder))
        for check in chosen.only:
            row = run_check(check, bench)
            failed += row["status"] == "failed"
            _say(row)
    timer.cancel()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
