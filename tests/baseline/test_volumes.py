"""The 3D network: patches in, volumes out, one stage or two, by the same verbs as the 2D networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import torch

from hcc_tace_data import open_collection
from hcc_tace_data.baseline.config import PatchConfig, TrainConfig, load_config
from hcc_tace_data.baseline.cost import make_step
from hcc_tace_data.baseline.data import load_cohort
from hcc_tace_data.baseline.dummies import dummy_cases
from hcc_tace_data.baseline.networks import build_model
from hcc_tace_data.baseline.predict import Cascade, predict_joint, predict_probability
from hcc_tace_data.baseline.sliding import slide, window_count
from hcc_tace_data.baseline.stages import prepare_batch, scale_image, stages_of, whole_liver
from hcc_tace_data.baseline.step import learning_rate
from hcc_tace_data.baseline.supply import Placement, StageBatches
from hcc_tace_data.baseline.train import train_stage
from hcc_tace_data.baseline.unet3d import ResidualUNet3d
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import BaselineError, UsageError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.augment_volumes import AugmentVolumes
from hcc_tace_data.volumes.nifti import write_nifti

Quick = Callable[..., TrainConfig]
HELD_OUT = patients_of("test")[:2]


def _model(quick: Quick, stage: str = "joint") -> ResidualUNet3d:
    torch.manual_seed(0)
    model = build_model(quick("3d"), 1, stage).eval()
    assert isinstance(model, ResidualUNet3d)
    return model


def test_levels_of_the_preset() -> None:
    """64 x 192 x 192 voxels become 4 x 6 x 6; the finest level does not reach across slices."""
    config = load_config("3d")
    with torch.device("meta"):
        model = build_model(config, 3, "joint").train()
    assert isinstance(model, ResidualUNet3d)
    assert model.steps == (16, 32, 32)
    outputs = model(torch.empty(1, 3, *config.input.patches.size, device="meta"))  # type: ignore[union-attr]
    assert [tuple(one.shape[1:]) for one in outputs] == [
        (3, 64, 192, 192), (3, 64, 96, 96), (3, 32, 48, 48), (3, 16, 24, 24), (3, 8, 12, 12),
    ]  # fmt: skip
    kernels = [level[0].body[0].kernel_size for level in model.down]  # type: ignore[index, union-attr]
    assert kernels == [(1, 3, 3)] + [(3, 3, 3)] * 5
    assert model.eval()(torch.empty(1, 3, 32, 64, 32, device="meta")).shape == (1, 3, 32, 64, 32)
    with pytest.raises(UsageError, match="multiples of"):
        model(torch.empty(1, 3, 8, 32, 32, device="meta"))


def test_one_window_is_one_pass(quick: Quick) -> None:
    config, model = quick("3d"), _model(quick)
    volume = torch.randint(-200, 400, (1, 4, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        direct = model(scale_image(volume, config.input.window)[None]).softmax(dim=1)[0]
    patches = config.input.patches
    assert patches is not None
    torch.testing.assert_close(slide(model, volume, config.input, patches), direct)
    both = predict_probability(model, "joint", volume, config.input)
    torch.testing.assert_close(both, direct[1:])
    label = predict_joint(model, volume, config.input)
    assert torch.equal(label > 0, direct[0] < 0.5)
    assert torch.equal(label == 2, (direct[0] < 0.5) & (direct[2] > direct[1]))


def test_mirrored_predictions_are_averaged(quick: Quick) -> None:
    config, model = quick("3d"), _model(quick)
    volume = torch.randint(-200, 400, (1, 4, 16, 16), generator=torch.Generator().manual_seed(1))
    scaled = scale_image(volume, config.input.window)[None]
    total = torch.zeros(3, 4, 16, 16)
    with torch.inference_mode():
        for chosen in product((False, True), repeat=3):
            axes = [axis for axis, wanted in zip((2, 3, 4), chosen, strict=True) if wanted]
            total += model(scaled.flip(axes)).softmax(dim=1).flip(axes)[0]
    found = predict_probability(model, "joint", volume, config.input, flips=True)
    torch.testing.assert_close(found, total[1:] / 8)
    # networks that were trained on mirrored patches predict so by themselves
    for augment, expected in ((True, found), (False, predict_probability(model, "joint", volume, config.input))):
        own = config.model_copy(update={"augment": augment})
        cascade = Cascade((model,), (model,), own, own, (), ("joint", "joint"))
        torch.testing.assert_close(cascade._mean("joint", cascade.liver, own, volume, None, False, 1), expected)


def test_windows_cover_a_volume(quick: Quick) -> None:
    """Far from what a window sees differently, the result is that of the whole volume at once."""
    config, model = quick("3d"), _model(quick)
    patches = config.input.patches
    assert patches is not None
    volume = torch.randint(-200, 400, (1, 7, 33, 40), generator=torch.Generator().manual_seed(2))
    calls: list[tuple[int, ...]] = []
    handle = model.register_forward_pre_hook(lambda module, inputs: calls.append(tuple(inputs[0].shape)))
    found = slide(model, volume, config.input, patches)
    handle.remove()
    # never a single one: PyTorch convolves that several times slower on a CPU
    assert set(calls) == {(2, 1, 4, 16, 16)}
    assert len(calls) == -(-window_count((7, 33, 40), patches) // 2)
    assert found.shape == (3, 7, 33, 40)
    torch.testing.assert_close(found.sum(dim=0), torch.ones(7, 33, 40))
    small = slide(model, volume[:, :2, :9, :10], config.input, patches)  # smaller than a window
    assert small.shape == (3, 2, 9, 10)


def test_the_second_stage_sees_the_liver_alone(quick: Quick) -> None:
    config, model = quick("3d"), _model(quick, "tumour")
    liver = torch.zeros(6, 32, 32, dtype=torch.bool)
    liver[1:5, 8:20, 6:22] = True
    liver[1, 8, 6] = False
    volume = torch.randint(-200, 400, (1, 6, 32, 32), generator=torch.Generator().manual_seed(3))
    found = predict_probability(model, "tumour", volume, config.input, liver=liver)
    assert not found[~liver].any()
    assert (found[liver] > 0).all()
    other = torch.where(liver, volume, 1000)
    torch.testing.assert_close(predict_probability(model, "tumour", other, config.input, liver=liver), found)
    assert not predict_probability(model, "tumour", volume, config.input, liver=liver & False).any()
    with pytest.raises(BaselineError, match="needs the liver"):
        predict_probability(model, "tumour", volume, config.input)


def test_what_each_stage_must_say() -> None:
    label = torch.arange(5, dtype=torch.uint8).repeat(8).view(1, 2, 4, 5)
    image = torch.zeros(1, 1, 2, 4, 5, dtype=torch.int16)
    settings = load_config("3d").input
    joint, liver, tumour = (prepare_batch(stage, image, label, settings) for stage in ("joint", "liver", "tumour"))
    assert joint.target[0, 0, 0].tolist() == [0, 1, 2, 1, 0]
    assert torch.equal(liver.target > 0, joint.target > 0)
    assert torch.equal(tumour.target > 0, joint.target == 2)
    assert tumour.inside is not None
    assert torch.equal(tumour.inside, whole_liver(label))
    assert joint.inside is None


def test_a_third_of_the_patches_is_on_the_tumour(cases: list[StoredCase], quick: Quick) -> None:
    config = quick("3d", input__patches__per_volume=6, input__patches__size="[2,4,4]", batch_size=6)
    for stage in ("joint", "tumour"):
        batches = StageBatches(config, stage, cases, threads=0)  # type: ignore[arg-type]
        centred = inside = count = 0
        for batch in batches.epoch():
            assert batch["image"].dtype == torch.int16
            assert batch["image"].shape[1:] == (1, 2, 4, 4)
            assert torch.equal(batch["spacing"], torch.tensor([[2.5, 0.8, 0.8]]).expand(len(batch["case"]), 3))
            for number, corner in zip(batch["case"].tolist(), batch["corner"].tolist(), strict=True):
                middle = [first + side // 2 for first, side in zip(corner, (2, 4, 4), strict=True)]
                for name in ("tumour", "liver"):
                    box = getattr(cases[number], name)
                    held = all(low <= place <= high for place, (low, high) in zip(middle, box, strict=True))
                    centred += held and name == "tumour"
                    inside += held and name == "liver"
                count += 1
        assert count == batches.samples == 36
        assert centred >= 12
        assert (inside == count) == (stage == "tumour")


def test_phases_are_channels(quick: Quick, tmp_path: Path) -> None:
    noise = dummy_cases(tmp_path, 32, channels=3, slices=6)
    result = train_stage(quick("3d", epochs=1), "joint", noise[:1], noise[1:], tmp_path / "run")
    assert result.steps == 1
    cascade = Cascade((build_model(quick("3d"), 3, "joint").eval(),), (), quick("3d"), quick("3d"))
    assert cascade.channels == 3
    with pytest.raises(BaselineError, match="3 channels, the image 1"):
        predict_probability(cascade.liver[0], "joint", torch.zeros(1, 6, 32, 32), quick("3d").input)


def test_labels_of_the_control_are_of_other_patients(cases: list[StoredCase], quick: Quick) -> None:
    batches = StageBatches(quick("3d"), "joint", cases, threads=0, shuffled=True)
    seen = set()
    for batch in batches.epoch():
        assert (batch["case"] != batch["donor"]).all()
        for number, donor, corner, target in zip(
            batch["case"].tolist(), batch["donor"].tolist(), batch["corner"].tolist(), batch["target"], strict=True
        ):
            d, h, w = corner  # all volumes here are of one size
            expected = cases[donor].label[d : d + 4, h : h + 16, w : w + 16]
            assert np.array_equal(target.numpy(), expected)
            seen.add((number, donor))
    assert len({donor for _, donor in seen}) == len(cases)


def test_a_predicted_liver_is_cut_like_its_patch(cases: list[StoredCase], quick: Quick) -> None:
    masks = {case.folder.name: np.asarray(case.label) == 2 for case in cases[:2]}
    for batch in StageBatches(quick("3d"), "tumour", cases[:2], livers=masks, threads=0).epoch():
        assert batch["liver"].dtype == torch.bool
        assert torch.equal(batch["liver"], batch["label"] == 2)


@pytest.mark.parametrize("world", [2, 3])
def test_every_process_gets_as_many_batches(cases: list[StoredCase], quick: Quick, world: int) -> None:
    config = quick("3d", batch_size=2, input__patches__per_volume=3)
    parts = [
        StageBatches(config, "joint", cases[:3], threads=0, placement=Placement(rank=r, world_size=world))
        for r in range(world)
    ]
    assert len({len(list(part.epoch())) for part in parts}) == 1


def test_turns_are_of_the_body_not_of_its_voxels() -> None:
    """A ball stays a ball of its size and place, in voxels that are thicker than wide; label and mask move alike."""
    d, h, w = (torch.arange(count, dtype=torch.float32) for count in (12, 48, 40))
    spacing = (3.0, 1.0, 1.0)
    place = torch.stack(torch.meshgrid(d * 3 - 16.5, h - 23.5, w - 19.5, indexing="ij"))
    ball = (place - torch.tensor([2.0, 9.0, -5.0]).view(3, 1, 1, 1)).norm(dim=0) < 7
    image, label = ball.float().expand(8, 1, -1, -1, -1), ball.long().expand(8, -1, -1, -1)
    augment = AugmentVolumes(mirror=False, scale=(1.0, 1.0), rotate=90, tilt=25)
    moves = 0
    for seed in range(6):
        _, moved_label, mask = augment.with_mask(
            image, label, label.bool(), torch.tensor([spacing]).expand(8, 3), torch.Generator().manual_seed(seed)
        )
        assert torch.equal(mask, moved_label.bool())
        for one in moved_label:
            if torch.equal(one, label[0]):
                continue
            moves += 1
            voxels = torch.nonzero(one).float() * torch.tensor(spacing) - torch.tensor([16.5, 23.5, 19.5])
            if len(voxels) < 0.9 * int(ball.sum()):
                continue  # partly turned out of the patch
            centre = voxels.mean(dim=0)
            assert float(centre.norm()) == pytest.approx(float(torch.tensor([2.0, 9.0, -5.0]).norm()), abs=0.5)
            spread = voxels.std(dim=0)
            assert float(spread.max() / spread.min()) < 1.15
    assert moves > 4


def test_augmentation_repeats_with_its_seed_and_mirrors_half() -> None:
    image = torch.rand(64, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    label = (image[:, 0] > 0.5).long()
    spacing = torch.tensor([[2.5, 0.8, 0.8]]).expand(64, 3)
    one, other = (AugmentVolumes()(image, label, spacing, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])
    assert torch.isfinite(one[0]).all()
    still = AugmentVolumes(mirror=True, rotate=0, tilt=0, scale=(1, 1))
    _, mirrored = still(image, label, spacing, torch.Generator().manual_seed(5))
    for axis in (1, 2, 3):
        others = [a for a in (1, 2, 3) if a != axis]
        ways = [list(set(others) & set(more)) for more in ((), (others[0],), (others[1],), tuple(others))]
        flipped = sum(
            any(torch.equal(new, old.flip([a - 1 for a in [axis, *way]])) for way in ways)
            for new, old in zip(mirrored, label, strict=True)
        )
        assert 20 <= flipped <= 44, "about half of 64 patches is mirrored along each axis"
    changed = [not torch.equal(new, old) for new, old in zip(one[0], image, strict=True)]
    assert any(changed)


@pytest.mark.parametrize("augment", [True, "spatial"])
def test_spatial_augmentation_leaves_values(augment: bool | str, cases: list[StoredCase], quick: Quick) -> None:
    """A liver of one value keeps it, wherever it comes to lie; other augmentation changes it."""
    config = quick("3d", augment=augment)
    step = make_step(config, "joint", 1)
    seen = []
    for batch in StageBatches(config, "joint", cases, threads=0).epoch():
        batch["image"] = torch.where(batch["label"][:, None] > 0, 100, 40).to(torch.int16)
        image, target = step.inputs(batch)
        assert target.any()
        seen += [image.min(), image.max()]
    low, high = scale_image(torch.tensor([40, 100]), config.input.window)
    kept = all(low - 1e-5 <= value <= high + 1e-5 for value in seen)
    assert kept is (augment == "spatial")


def test_the_rate_falls_to_nothing() -> None:
    config = load_config("3d")
    rates = [learning_rate(config, step, 100) for step in (0, 50, 99)]
    assert rates[0] == 0.01
    assert rates[1] == pytest.approx(0.01 * 0.5**0.9)
    assert 0 < rates[2] < 0.001


@pytest.mark.parametrize(
    ("preset", "overrides", "said"),
    [
        ("3d", ["model.widths=[8,16]"], "blocks is"),
        ("3d", ["input.patches.size=[64,100,192]"], r"multiples of \[16, 32, 32\]"),
        ("3d", ["input.patches.size=[16,32,32]"], "single voxel"),
        ("3d", ["input.patches.sise=[64,96,96]"], "did you mean input.patches.size"),
        ("3d", ["input.shrink=2"], "are for slices"),
        ("3d", ["resident=yes"], "patches come from the store"),
        ("3d", ["stages=[tumour]"], "stages must be one of"),
        ("3d", ["input.patches=null"], "give both or neither"),
        ("modern", ["stages=[joint]"], "needs the 3D network"),
        ("modern", ["augment=spatial"], "augment spatial is for patches"),
        ("modern", ["model.blocks=[1,2,3,4,5]"], "belong to the residual 3D network"),
    ],
)
def test_keys_that_do_not_fit_are_named(preset: str, overrides: list[str], said: str) -> None:
    with pytest.raises(BaselineError, match=said):
        load_config(preset, overrides)


def test_stages_that_an_option_names() -> None:
    assert stages_of("both", load_config("3d")) == ("joint",)
    assert stages_of("both", load_config("3d", ["stages=[joint, tumour]"])) == ("joint", "tumour")
    assert stages_of("tumour", load_config("3d")) == ("tumour",)
    with pytest.raises(UsageError, match="use liver, tumour or both"):
        stages_of("joint", load_config("modern"))


def test_bench_measures_patches(capsys: pytest.CaptureFixture[str]) -> None:
    keys = ["model.widths=[8,16]", "model.blocks=[1,1]", "input.patches.size=[4,16,16]", "batch_size=2"]
    words = ["baseline", "bench", "--preset", "3d", "--dummy", "32", "--steps", "2", "--rounds", "1", "--quiet"]
    assert main([*words, "--json", *(word for key in keys for word in ("--set", key))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["image"], found["batch_size"]) == ("joint", [4, 16, 16], 2)
    # a residual block of 1x3x3 and its way past it, one of 3x3x3 with half the pixels, and the way back with its head
    fine, coarse = 4 * 16 * 16, 4 * 8 * 8
    maps = fine * (9 * (1 * 8 + 8 * 8) + 1 * 8 + 9 * (16 * 8 + 8 * 8) + 8 * 2)
    maps += coarse * (27 * (8 * 16 + 16 * 16) + 8 * 16) + fine * 16 * 8
    assert found["gflop_per_step"] == pytest.approx(3 * 2 * 2 * maps / 1e9, abs=0.006)


def test_only_a_liver_network_learns_from_other_data(
    tmp_path: Path, small_twin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["baseline", "train", str(small_twin), "--preset", "3d", "--liver-data", str(tmp_path), "--quiet"]
    assert main(words) == 2
    assert "for the liver network alone; this trains joint" in capsys.readouterr().err


def test_windows_are_counted() -> None:
    assert window_count((90, 512, 512), PatchConfig(size=(64, 192, 192))) == 50
    assert window_count((10, 64, 64), PatchConfig(size=(64, 192, 192))) == 1


@pytest.fixture
def run(cases: list[StoredCase], quick: Quick, tmp_path: Path) -> Path:
    """Two folds: both stages in one, and the tumour a second time in the first fold alone."""
    config = quick("3d", epochs=1)
    for fold in range(2):
        train_stage(config, "joint", cases[:3], cases[4:5], tmp_path / f"fold{fold}" / "joint")
    train_stage(config, "tumour", cases[:3], cases[4:5], tmp_path / "fold0" / "tumour")
    return tmp_path


def test_a_cascade_takes_the_stages_that_are_there(run: Path, cases: list[StoredCase]) -> None:
    one = Cascade.load_folds(run, [1])
    assert (one.stages, len(one.about)) == (("joint", "joint"), 1)
    two = Cascade.load_folds(run, [0])
    assert (two.stages, len(two.about)) == (("joint", "tumour"), 2)
    with pytest.raises(BaselineError, match=r"fold0 has the stages joint and tumour.*fold1 has joint;"):
        Cascade.load_folds(run)
    image = torch.from_numpy(cases[5].image.copy())
    true = torch.from_numpy(cases[5].label > 0)
    for cascade in (one, two):
        found = cascade.run(image, true_liver=true)
        assert np.array_equal(found.liver, true.numpy())
        assert not found.label[~found.liver].any()
    with torch.no_grad():  # all liver: what is tumour decides the tumour alone
        one.liver[0].head.bias.copy_(torch.tensor([-99.0, 0.0, 99.0]))
    found = one.run(image)
    assert (found.label == 2).all()
    (record,) = one.about
    assert (record["stage"], record["patches"], record["channels"]) == ("joint", 6, 1)
    assert "3D residual-encoder U-Net" in (run / "fold1" / "joint" / "README.md").read_text()


#: As TINY of the 2D networks, on the tiny twin.
WORDS = ["model.widths=[8,16]", "model.blocks=[1,1]", "input.patches.size=[8,32,32]", "input.patches.per_volume=4"]
WORDS += ["batch_size=4", "optimizer.name=adamw", "optimizer.lr=0.01", "max_steps=60", "validate_every=15"]
WORDS += ["augment=false", "input.phases=[annotated]"]


def test_the_same_verbs_train_predict_and_score(
    small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = str(small_twin), tmp_path / "run"
    words = ["baseline", "train", root, "--preset", "3d", "--out", str(out), "--no-tensorboard", "--quiet"]
    keys = [word for key in WORDS for word in ("--set", key)]
    assert main([*words, *keys, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["stage"], row["steps"]) == ("joint", 60)
    record = json.loads((out / "fold0" / "joint" / "run.json").read_text())
    assert record["config"]["stages"] == ["joint"]
    assert set(record["train_patients"]) <= set(patients_of("train", 0))
    scores = tmp_path / "scores"
    assert main(["baseline", "evaluate", root, "--model", str(out), "--predictions", str(scores), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [case["patient_id"] for case in document["cases"]] == HELD_OUT
    assert document["summary"]["labels"]["liver"]["dice"]["mean"] > 0.5
    assert document["true_liver"]["summary"]["labels"]["liver"]["dice"]["mean"] == 1
    assert (scores / "plots" / "curves.png").is_file()
    # slices closer together than in training: labelled on their own grid, as a patient, as a file and as DICOM-SEG
    words = ["baseline", "predict", "--model", str(out), "--out", str(tmp_path / "predicted"), "--quiet", "--json"]
    assert main([*words, HELD_OUT[0], "--root", root, "--seg"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    segments = pydicom.dcmread(found["seg"], stop_before_pixels=True).SegmentSequence
    assert segments[0].SegmentAlgorithmName.startswith("3D residual-encoder U-Net, preset 3d")
    case = load_cohort(open_collection(small_twin), patients=HELD_OUT).stored[HELD_OUT[0]]
    fine, affine = np.repeat(np.asarray(case.image[0]), 2, axis=0), np.array(case.affine)
    affine[:3, 3] -= affine[:3, 0] / 4
    affine[:3, 0] /= 2
    write_nifti(tmp_path / "fine.nii.gz", fine, affine)
    assert main([*words, str(tmp_path / "fine.nii.gz")]) == 0
    (again,) = json.loads(capsys.readouterr().out)["predictions"]
    whole, halves = (np.asarray(nibabel.load(row["file"]).dataobj) > 0 for row in (found, again))
    assert halves.shape == (*whole.shape[:2], 2 * whole.shape[2])
    assert whole.any()
    assert np.array_equal(halves[:, :, ::2], whole)
    # a network that has seen a test patient is refused, of this stage as of the others
    path = out / "fold0" / "joint" / "run.json"
    path.write_text(json.dumps({**record, "train_patients": [HELD_OUT[0]]}))
    assert main(["baseline", "evaluate", root, "--model", str(out), "--predictions", str(scores)]) == 2
    assert "have seen" in capsys.readouterr().err


def test_a_reproduction_is_planned_and_carried_out(
    small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["baseline", "reproduce", str(small_twin), "--preset", "3d", "--fold", "0", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "plan"), "--budget", "1", "--estimate", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["config"]["model"]["widths"] != [32, 64, 128, 256, 320, 320]
    assert any("patches of" in change for change in plan["changes"])
    assert (plan["trainings"], list(plan["steps"])) == (2, ["joint"])
    keys = [word for key in [*WORDS, "stages=[joint, tumour]"] for word in ("--set", key)]
    out = tmp_path / "run"
    assert main([*words, *keys, "--out", str(out), "--steps", "6", "--no-control"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert set(report["folds"][0]) >= {"joint", "tumour"}
    assert report["plan"]["trainings"] == 2
    assert "3D residual-encoder U-Net" in (out / "report.html").read_text()


def test_what_nnunet_writes_is_scored_alike(
    small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nnUNetv2_predict` names a result after its image without the channel, and reads and writes with SimpleITK."""
    raw, out = tmp_path / "Dataset501_HCCTACE", tmp_path / "results"
    assert main(["export", "nnunet", str(raw), str(small_twin), "--workers", "1", "--quiet"]) == 0
    out.mkdir()
    labels = json.loads((raw / "dataset.json").read_text())["labels"]
    assert {labels["liver"], labels["tumour"]} == {1, 2}
    images = sorted((raw / "imagesTs").glob("*_0000.nii.gz"))
    assert len(images) == len(HELD_OUT)
    for path in images:
        name = path.name.removesuffix("_0000.nii.gz")
        image = SimpleITK.ReadImage(str(path))
        truth = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(raw / "labelsTs" / f"{name}.nii.gz")))
        result = SimpleITK.GetImageFromArray(np.where(truth == 4, 0, truth).astype(np.uint8))
        result.SetSpacing(image.GetSpacing())
        result.SetOrigin(image.GetOrigin())
        result.SetDirection(image.GetDirection())
        SimpleITK.WriteImage(result, str(out / f"{name}.nii.gz"), True)
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):  # which it puts beside them
        (out / name).write_text("{}")
    capsys.readouterr()
    words = ["baseline", "evaluate", str(small_twin), "--predictions", str(out), "--no-plots", "--quiet", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert [case["patient_id"] for case in document["cases"]] == HELD_OUT
    for label in ("liver", "tumour"):
        assert document["summary"]["labels"][label]["dice"]["mean"] == 1
    assert set(document["trivial"]) == {"all_liver", "hu_threshold"}
