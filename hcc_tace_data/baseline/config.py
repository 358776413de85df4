"""Configuration of a training: a preset from a YAML file, with any key overridden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hcc_tace_data.errors import BaselineError
from hcc_tace_data.system.documents import parse_yaml

__all__ = ["PRESETS", "STAGES", "Stage", "TrainConfig", "load_config", "with_defaults"]

_FOLDER = Path(__file__).parent / "presets"
#: Presets shipped with the package.
PRESETS = ("paper", "modern", "3d")

#: What a network looks for: the liver, the tumour within a liver, or both at once.
Stage = Literal["liver", "tumour", "joint"]
#: The cascade of two, in the order in which they are trained and run.
STAGES: tuple[Stage, ...] = ("liver", "tumour")
#: Cascades that a preset may train: liver and tumour apart, both at once, or both at once and then the tumour again.
_CASCADES: tuple[tuple[Stage, ...], ...] = (STAGES, ("joint",), ("joint", "tumour"))


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Strict):
    """The U-Net: feature maps of each level, dropout in the up-sampling limb, heads at its coarser levels.

    `kind` is the paper's 2D network or the residual 3D one. Of the latter `blocks` are the residual blocks of each
    level, and `flat_levels` how many times rows and columns are halved before slices are, too.
    """

    kind: Literal["unet2d", "residual3d"] = "unet2d"
    widths: tuple[int, ...] = Field(min_length=2)
    blocks: tuple[int, ...] | None = None
    flat_levels: int = Field(default=1, ge=0)
    dropout: float = Field(ge=0, lt=1)
    deep_supervision: bool = False

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.kind == "unet2d":
            if self.blocks is not None:
                raise ValueError("blocks belong to the residual 3D network; leave them out")
            return self
        if self.dropout:
            raise ValueError("the residual 3D network has no dropout; use 0")
        if self.blocks is None or len(self.blocks) != len(self.widths) or min(self.blocks) < 1:
            raise ValueError(
                f"blocks is {self.blocks}; give a number of at least 1 for each of {len(self.widths)} levels"
            )
        return self

    @property
    def strides(self) -> tuple[tuple[int, int, int], ...]:
        """How the residual 3D network goes from each level to the next, along (D, H, W)."""
        return tuple((1 if level < self.flat_levels else 2, 2, 2) for level in range(len(self.widths) - 1))


class PatchConfig(_Strict):
    """Patches of a volume, which the 3D network sees instead of slices.

    `size` is in voxels along (D, H, W); a share `foreground` of the `per_volume` patches of a volume and epoch lies on
    the tumour. Prediction slides a window of that size, each `overlap` of the way over the one before. `mirror`:
    augmentation mirrors patches along all axes, and a prediction is the mean over all eight mirrored ones.
    """

    size: tuple[int, int, int]
    per_volume: int = Field(default=6, ge=1)
    foreground: float = Field(default=1 / 3, ge=0, le=1)
    overlap: float = Field(default=0.5, ge=0, lt=1)
    mirror: bool = True

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, int, int]) -> tuple[int, int, int]:
        if min(size) < 1:
            raise ValueError("each side must be at least 1 voxel")
        return size


class InputConfig(_Strict):
    """The image: phases as channels, the HU that become 0 and 1 (None: HU as they are), and which slices.

    `shrink` averages blocks of so many pixels along rows and columns before the network and widens its answer after.
    `slices` is what the liver network trains on: the slices that show the liver, or all. The tumour network always
    trains on the former. `standardise` gives the liver that the tumour network sees mean 0 and standard deviation 1,
    slice by slice: a tumour differs from the liver by some 25 HU, and how bright the liver is depends on the phase.
    `tumour_shrink` is that network's own `shrink` (None: the same), for small tumours need the pixels and `crop`
    makes up for them: it cuts that network's slices to the box around the liver, outside of which they are blank.
    `patches` is for the 3D network, which sees those instead of slices; `slices` then does not matter.
    """

    phases: tuple[str, ...] = Field(default=("annotated",), min_length=1)
    window: tuple[float, float] | None = None
    shrink: int = Field(default=1, ge=1, le=16)
    tumour_shrink: int | None = Field(default=None, ge=1, le=16)
    slices: Literal["liver", "all"] = "liver"
    standardise: bool = False
    crop: bool = False
    patches: PatchConfig | None = None

    @model_validator(mode="after")
    def _of_slices(self) -> InputConfig:
        if self.patches is not None and (
            self.shrink > 1 or self.tumour_shrink not in (None, 1) or self.standardise or self.crop
        ):
            raise ValueError("shrink, tumour_shrink, standardise and crop are for slices; leave them out with patches")
        return self

    def of_stage(self, stage: str) -> InputConfig:
        """The settings of one network: `shrink` is its own."""
        if stage != "tumour" or self.tumour_shrink is None:
            return self
        return self.model_copy(update={"shrink": self.tumour_shrink, "tumour_shrink": None})

    @field_validator("window")
    @classmethod
    def _ascending(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and not window[0] < window[1]:
            raise ValueError("the first value must be below the second")
        return window


class LossConfig(_Strict):
    """Weights of soft Dice and cross-entropy; whether the Dice's denominator is squared."""

    dice: float = Field(ge=0)
    squared: bool
    cross_entropy: float = Field(ge=0)


class OptimizerConfig(_Strict):
    """Optimiser, learning rate and weight decay; "sgd" is with Nesterov's momentum of 0.99."""

    name: Literal["adadelta", "adamw", "sgd"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class ScheduleConfig(_Strict):
    """Learning rate over the steps: constant, cosine, or falling with the power of 0.9, after a linear warm-up."""

    name: Literal["constant", "cosine", "polynomial"]
    warmup_steps: int = Field(ge=0)


class TrainConfig(_Strict):
    """All that decides how a stage is trained, besides the data.

    `tumour_liver` is the liver that the tumour network sees in training: the annotated one, or the one that the liver
    network found. `compile` names a backend of ``torch.compile``. The batch is that of one process. `resident` keeps
    all slices on the device; "auto" does so on a GPU where they take less than half of its free memory. `stages` are
    the networks of a fold. `augment` "spatial" turns, sizes and mirrors patches and leaves their values. `precision`
    "auto" is bf16 on a GPU that has it, else full precision.
    """

    name: str
    stages: tuple[Stage, ...] = STAGES
    model: ModelConfig
    input: InputConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1)
    validate_every: int = Field(default=1, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    patience: int = Field(ge=1)
    ema: float | None = Field(default=None, gt=0, lt=1)
    augment: bool | Literal["spatial"]
    tumour_liver: Literal["true", "predicted"] = "true"
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["no", "bf16", "fp16", "auto"] = "no"
    channels_last: bool = False
    compile: Literal["inductor", "aot_eager", "eager"] | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> TrainConfig:
        volumes = self.model.kind == "residual3d"
        if volumes != (self.input.patches is not None):
            raise ValueError("model.kind residual3d and input.patches go together; give both or neither")
        if self.stages not in _CASCADES:
            raise ValueError(f"stages must be one of {', '.join(map(str, map(list, _CASCADES)))}")
        if self.augment == "spatial" and not volumes:
            raise ValueError("augment spatial is for patches; use true or false")
        if "joint" in self.stages and not volumes:
            raise ValueError("stage joint needs the 3D network; use [liver, tumour]")
        if self.input.patches is not None:
            if self.resident == "yes":
                raise ValueError("resident keeps slices on the device; patches come from the store, use no")
            halved = self.model.strides
            steps = [2 ** sum(stride[axis] == 2 for stride in halved) for axis in range(3)]
            if any(side % step for side, step in zip(self.input.patches.size, steps, strict=True)):
                raise ValueError(
                    f"input.patches.size is {list(self.input.patches.size)}; with {len(self.model.widths)} levels its "
                    f"sides must be multiples of {steps}"
                )
            if tuple(steps) == self.input.patches.size:
                raise ValueError("input.patches.size leaves a single voxel at the coarsest level; double one side")
        return self

    @field_validator("precision", "tumour_liver", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        # YAML reads the words no and true as truth values
        return {True: "true", False: "no"}[value] if isinstance(value, bool) else value

    @field_validator("resident", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def load_config(preset: str | Path = "paper", overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a preset and apply overrides.

    Parameters
    ----------
    preset : str or pathlib.Path
        "paper", "modern", "3d", or a YAML file of the same keys.
    overrides : iterable of str
        ``key=value`` with dots between levels, such as ``optimizer.lr=0.01``; the value is read as YAML.

    Raises
    ------
    BaselineError
        No such preset, no such key, or a value that makes no sense; the key is named.

    Examples
    --------
    >>> load_config("paper", ["optimizer.lr=0.5"]).optimizer.lr
    0.5
    """
    path = _FOLDER / f"{preset}.yaml" if str(preset) in PRESETS else Path(preset)
    if not path.is_file():
        raise BaselineError(f"no preset {str(preset)!r}; use {', '.join(PRESETS)} or a YAML file.")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BaselineError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise BaselineError(f"{path} holds no keys.")
    for override in overrides:
        _override(values, override)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_fault(item) for item in error.errors())
        raise BaselineError(f"configuration {path.name}: {faults}.") from error


def with_defaults(plain: Any) -> Any:
    """Return a configuration as written by an older version as this one writes it: keys that are new at their default.

    What is no configuration of this version is returned as it is.
    """
    try:
        return TrainConfig.model_validate(plain).model_dump(mode="json")
    except ValidationError:
        return plain


def _fault(item: Mapping[str, Any]) -> str:
    """Return one fault of a configuration for a person, with the key that was probably meant."""
    key = ".".join(map(str, item["loc"])) or "keys"
    if item["type"] != "extra_forbidden":
        return f"{key}: {item['msg']}"
    known = list(_keys(TrainConfig))
    leaf = key.rpartition(".")[2]
    near = [other for other in known if other.rpartition(".")[2] == leaf]
    near = near or get_close_matches(key, known, n=1)
    return f"{key}: no such key" + (f", did you mean {near[0]}?" if near else f"; keys are {', '.join(known)}")


def _keys(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Yield the keys of a configuration, with dots between levels."""
    for name, field in model.model_fields.items():
        yield above + name
        kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{above}{name}.")


def _override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise BaselineError(f"override {override!r} is not of the form key=value.")
    *levels, last = key.strip().split(".")
    place: Any = values
    for level in levels:
        place = place.setdefault(level, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise BaselineError(f"override {override!r}: {'.'.join(levels)} has no keys of its own.")
    try:
        place[last] = parse_yaml(text)
    except ValueError as error:
        raise BaselineError(f"override {override!r}: the value is not YAML ({error}).") from error
