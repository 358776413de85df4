"""Training: repeatable, resumable, and blind to the patients it is scored on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hcc_tace_data.baseline.checkpoint import load_state, load_weights, save_state, save_weights
from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.predict import Cascade, largest_component, load_model, predict_stage
from hcc_tace_data.baseline.train import train_stage
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.store import StoredCase

Quick = Callable[..., TrainConfig]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_weights(folder / "last.safetensors")[0]


def _equal(one: Path, other: Path) -> bool:
    a, b = _weights(one), _weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_same_seed_same_weights_whatever_the_threads(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    for name, seed, threads in (("a", 0, 0), ("b", 0, 2), ("c", 1, 0)):
        train_stage(
            quick(epochs=2, seed=seed), "liver", cases[:4], cases[4:], tmp_path / name, TrainOptions(threads=threads)
        )
    assert _equal(tmp_path / "a", tmp_path / "b")
    assert not _equal(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    ("preset", "stage"), [("paper", "tumour"), ("modern", "tumour"), ("3d", "joint"), ("3d", "tumour")]
)
def test_resumed_training_reaches_the_same_weights(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, preset: str, stage: Any
) -> None:
    config = quick(preset)
    train_stage(config, stage, cases[:4], cases[4:], tmp_path / "whole")
    train_stage(config, stage, cases[:4], cases[4:], tmp_path / "parts", TrainOptions(stop_after=2))
    assert not _equal(tmp_path / "whole", tmp_path / "parts")
    result = train_stage(config, stage, cases[:4], cases[4:], tmp_path / "parts", TrainOptions(resume=True))
    assert result.epochs == 4
    assert _equal(tmp_path / "whole", tmp_path / "parts")
    logs = [(tmp_path / name / "steps.csv").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_a_run_of_an_older_version_is_continued(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    """Its configuration lacks the keys that came later."""
    config = quick(epochs=2)
    train_stage(config, "liver", cases[:2], cases[4:], tmp_path, TrainOptions(stop_after=1))
    state = load_state(tmp_path / "state.pt")
    del state["identity"]["config"]["stages"], state["identity"]["config"]["input"]["patches"]
    for key in ("kind", "blocks", "flat_levels"):
        del state["identity"]["config"]["model"][key]
    save_state(tmp_path / "state.pt", state)
    assert train_stage(config, "liver", cases[:2], cases[4:], tmp_path, TrainOptions(resume=True)).epochs == 2
    with pytest.raises(BaselineError, match=r"another configuration.*\(config\)"):
        train_stage(quick(epochs=3), "liver", cases[:2], cases[4:], tmp_path, TrainOptions(resume=True))


def test_killed_while_it_saved(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the second epoch are there, its state is not: the epoch is done again and ends the same."""
    from hcc_tace_data.baseline import trainer

    config, whole = quick(epochs=3), tmp_path / "whole"
    train_stage(config, "liver", cases[:4], cases[4:], whole)
    saved, calls = trainer.save_state, []

    def killed(path: Path, state: dict[str, object]) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        saved(path, state)

    monkeypatch.setattr(trainer, "save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        train_stage(config, "liver", cases[:4], cases[4:], tmp_path / "killed")
    assert len(load_state(tmp_path / "killed" / "state.pt")["history"]) == 1
    train_stage(config, "liver", cases[:4], cases[4:], tmp_path / "killed", TrainOptions(resume=True))
    assert _equal(whole, tmp_path / "killed")
    best = [load_weights(folder / "best.safetensors") for folder in (whole, tmp_path / "killed")]
    assert all(torch.equal(best[0][0][name], best[1][0][name]) for name in best[0][0])
    assert best[0][1]["epoch"] == best[1][1]["epoch"]


def test_both_stages_learn(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    config = quick(epochs=25, batch_size=4, optimizer__lr=0.01, patience=25)
    for stage in ("liver", "tumour"):
        result = train_stage(config, stage, cases[:4], cases[4:5], tmp_path / stage)
        assert result.losses[-1] < 0.5 * result.losses[0]
    cascade = Cascade.load(tmp_path / "liver" / "best.safetensors", tmp_path / "tumour" / "best.safetensors")
    held_out = cases[5]
    label = torch.from_numpy(held_out.label.copy())
    predicted = cascade.predict(torch.from_numpy(held_out.image.copy()), flips=True)
    assert dice(predicted > 0, (label > 0).numpy()) > 0.85
    assert dice(predicted == 2, (label == 2).numpy()) > 0.6


def test_a_run_touches_only_its_training_patients(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    train_stage(quick(epochs=1), "liver", cases[:3], cases[3:5], tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["train_patients"] == ["HCC_000", "HCC_001", "HCC_002"]
    assert record["validation_patients"] == ["HCC_003", "HCC_004"]
    with pytest.raises(BaselineError, match="HCC_002"):
        train_stage(quick(epochs=1), "liver", cases[:3], cases[2:4], tmp_path / "leak")


def test_log_and_record_say_what_was_done(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    config = quick(epochs=2)
    result = train_stage(config, "liver", cases[:4], cases[4:], tmp_path)
    with open(tmp_path / "log.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["loss"]) for row in rows] == pytest.approx(list(result.losses))
    with open(tmp_path / "steps.csv", newline="") as handle:
        by_step = list(csv.DictReader(handle))
    assert [int(row["step"]) for row in by_step] == list(range(1, result.steps + 1)), "every step is on record"
    last = [float(row["loss"]) for row in by_step][int(rows[0]["steps"]) :]
    assert np.mean(last) == pytest.approx(float(rows[1]["loss"]))
    record = json.loads((tmp_path / "run.json").read_text())
    assert TrainConfig.model_validate(record["config"]) == config
    assert record["torch"] == torch.__version__


def test_early_stop(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    config = quick(epochs=30, patience=2, optimizer__lr=1e-12, ema="null")
    assert train_stage(config, "tumour", cases[:2], cases[4:], tmp_path).epochs < 8


def test_a_loss_that_is_no_number_stops_the_run(
    cases: list[StoredCase], quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hcc_tace_data.baseline.losses.soft_dice_loss", lambda logits, *_, **__: logits.sum() * torch.nan
    )
    with pytest.raises(BaselineError, match="nan at step 1"):
        train_stage(quick(), "liver", cases[:4], cases[4:], tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


def test_weights_that_are_no_numbers_are_not_kept(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    """The loss of the last step is known before its update, and the update can be the one that breaks."""
    with pytest.raises(BaselineError, match=r"weights are NaN or infinite.*optimizer\.lr"):
        train_stage(
            quick(
                max_steps=1,
                optimizer__lr=3.3e37,
                optimizer__weight_decay=10,
                ema="null",
                schedule__warmup_steps=0,
                clip="null",
            ),
            "liver",
            cases[:4],
            cases[4:],
            tmp_path,
        )
    assert not (tmp_path / "last.safetensors").exists()


def test_a_machine_that_cannot_compile_is_told_so(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    from hcc_tace_data.baseline.cost import dummy_batch, make_step

    config = quick(compile="eager")
    step = make_step(config, "liver", 1)

    def broken(image: torch.Tensor) -> torch.Tensor:
        raise InvalidCxxCompiler

    step.network = broken  # type: ignore[assignment]
    with pytest.raises(BaselineError, match=r"backend 'eager' failed: No working C\+\+ compiler.*compile=null"):
        step(dummy_batch(config, 1, 32))


def test_what_cannot_be_resumed_is_refused(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="no training to resume"):
        train_stage(quick(), "liver", cases[:4], cases[4:], tmp_path, TrainOptions(resume=True))
    train_stage(quick(epochs=2), "liver", cases[:4], cases[4:], tmp_path, TrainOptions(stop_after=1))
    for config, part in ((quick(epochs=3), cases[:4]), (quick(epochs=2), cases[:3])):
        with pytest.raises(BaselineError, match="another configuration"):
            train_stage(config, "liver", part, cases[4:], tmp_path, TrainOptions(resume=True))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "ran"),))  # type: ignore[return-value]

    (tmp_path / "state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BaselineError, match="not the state"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "ran").exists()


def test_checkpoints_that_do_not_fit_are_refused(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    train_stage(quick(epochs=1), "liver", cases[:2], cases[4:], tmp_path / "modern")
    train_stage(quick("paper", epochs=1), "tumour", cases[:2], cases[4:], tmp_path / "paper")
    modern, paper = tmp_path / "modern" / "last.safetensors", tmp_path / "paper" / "last.safetensors"
    with pytest.raises(BaselineError, match="liver stage; the tumour stage"):
        load_model(modern, "tumour")
    with pytest.raises(BaselineError, match="one preset"):
        Cascade.load(modern, paper)
    with pytest.raises(BaselineError, match="no checkpoint"):
        load_model(tmp_path / "none.safetensors", "liver")
    (tmp_path / "bad.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(BaselineError, match="not a checkpoint"):
        load_model(tmp_path / "bad.safetensors", "liver")
    weights, about = load_weights(modern)
    about["config"]["model"]["widths"] = [4, 8]
    save_weights(tmp_path / "other.safetensors", weights, about)
    with pytest.raises(BaselineError, match="do not fit"):
        load_model(tmp_path / "other.safetensors", "liver")


def test_no_liver_is_an_error(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    for stage in ("liver", "tumour"):
        train_stage(quick(epochs=1), stage, cases[:2], cases[4:], tmp_path / stage)
    cascade = Cascade.load(tmp_path / "liver" / "last.safetensors", tmp_path / "tumour" / "last.safetensors")
    with torch.no_grad():
        cascade.liver[0].head.bias.copy_(torch.tensor([99.0, -99.0]))
    with pytest.raises(BaselineError, match="no liver found"):
        cascade.predict(torch.zeros(1, 4, 32, 32))


def test_any_slice_size_is_predicted_and_cut_back(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> None:
    train_stage(quick(epochs=1), "liver", cases[:2], cases[4:], tmp_path)
    model, config = load_model(tmp_path / "last.safetensors", "liver")
    assert predict_stage(model, "liver", torch.zeros(1, 3, 31, 45), config.input).shape == (3, 31, 45)


def test_largest_component() -> None:
    mask = torch.zeros(4, 6, 6, dtype=torch.bool).numpy()
    mask[0, 0, :2], mask[2, 2:5, 2:5] = True, True
    kept = largest_component(mask)
    assert kept.sum() == 9
    assert not largest_component(mask & False).any()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["optimizer.lr=-1"], "optimizer.lr"),
        (["optimizer.speed=1"], "optimizer.speed: no such key"),
        (["optimiser.lr=1"], r"optimiser: no such key, did you mean optimizer\?"),
        (["lr=1"], r"lr: no such key, did you mean optimizer.lr\?"),
        (["input.windw=null"], r"did you mean input.window\?"),
        (["batch_size=many"], "batch_size"),
        (["batch_size"], "key=value"),
        (["name.x=1"], "no keys"),
    ],
)
def test_broken_configuration_names_the_key(overrides: list[str], named: str) -> None:
    with pytest.raises(BaselineError, match=named):
        load_config("paper", overrides)


def test_unknown_preset(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="paper, modern"):
        load_config("fancy")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(BaselineError, match="not YAML"):
        load_config(tmp_path / "x.yaml")
