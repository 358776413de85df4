"""Configuration of a training: a preset from a YAML file, with any key overridden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hcc_tace_data.errors import BaselineError
from hcc_tace_data.system.documents import parse_yaml

__all__ = ["PRESETS", "TrainConfig", "load_config"]

_FOLDER = Path(__file__).parent / "presets"
#: Presets shipped with the package.
PRESETS = ("paper", "modern")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Strict):
    """The U-Net: feature maps of each level, dropout in the up-sampling limb, heads at its coarser levels."""

    widths: tuple[int, ...] = Field(min_length=2)
    dropout: float = Field(ge=0, lt=1)
    deep_supervision: bool = False


class InputConfig(_Strict):
    """The image: phases as channels, the HU that become 0 and 1 (None: HU as they are), and which slices.

    `shrink` averages blocks of so many pixels along rows and columns before the network and widens its answer after.
    `slices` is what the liver network trains on: the slices that show the liver, or all. The tumour network always
    trains on the former. `standardise` gives the liver that the tumour network sees mean 0 and standard deviation 1,
    slice by slice: a tumour differs from the liver by some 25 HU, and how bright the liver is depends on the phase.
    `tumour_shrink` is that network's own `shrink` (None: the same), for small tumours need the pixels and `crop`
    makes up for them: it cuts that network's slices to the box around the liver, outside of which they are blank.
    """

    phases: tuple[str, ...] = Field(default=("annotated",), min_length=1)
    window: tuple[float, float] | None = None
    shrink: int = Field(default=1, ge=1, le=16)
    tumour_shrink: int | None = Field(default=None, ge=1, le=16)
    slices: Literal["liver", "all"] = "liver"
    standardise: bool = False
    crop: bool = False

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
    """Optimiser, learning rate and weight decay."""

    name: Literal["adadelta", "adamw"]
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


class ScheduleConfig(_Strict):
    """Learning rate over the steps: constant or cosine, after a linear warm-up."""

    name: Literal["constant", "cosine"]
    warmup_steps: int = Field(ge=0)


class TrainConfig(_Strict):
    """All that decides how a stage is trained, besides the data.

    `tumour_liver` is the liver that the tumour network sees in training: the annotated one, or the one that the liver
    network found. `compile` names a backend of ``torch.compile``. The batch is that of one process. `resident` keeps
    all slices on the device; "auto" does so on a GPU where they take less than half of its free memory.
    """

    name: str
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
    augment: bool
    tumour_liver: Literal["true", "predicted"] = "true"
    clip: float | None = Field(default=None, gt=0)
    precision: Literal["no", "bf16", "fp16"] = "no"
    channels_last: bool = False
    compile: Literal["inductor", "aot_eager", "eager"] | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    seed: int = 0

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
        "paper", "modern", or a YAML file of the same keys.
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


def _fault(item: Mapping[str, Any]) -> str:
    """Return one fault of a configuration for a person, with the key that was probably meant."""
    key = ".".join(map(str, item["loc"]))
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
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{above}{name}.")


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
