"""What a training leaves behind: log, run record, model card, TensorBoard events."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_rows
from hcc_tace_data.system.words import count
from hcc_tace_data.version import __version__

__all__ = ["Curves", "environment", "model_card", "write_log"]

logger = logging.getLogger(__name__)


def environment() -> dict[str, Any]:
    """Return versions, platform and commit: what a result depends on besides data, configuration and seed."""
    versions = {}
    for name in ("torch", "accelerate", "numpy", "scipy", "pydicom", "highdicom", "safetensors"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "hcc_tace_data": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Return the commit of the checkout that runs, '+' where files differ from it; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = [
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return done[0].strip() + ("+" if done[1].strip() else "")


def write_log(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write one row per epoch, or per step, as CSV."""
    atomic_write_text(path, csv_rows(list(history[0]), history))


class Curves:
    """TensorBoard events, where tensorboardX is installed; else nothing, said once.

    Parameters
    ----------
    folder : pathlib.Path, optional
        Where events go; None writes none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - slow to import
        except ImportError:
            logger.warning("no TensorBoard events: tensorboardX is not installed; log.csv has the same figures")
            return
        self._writer = SummaryWriter(str(folder))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add figures at a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


_NETWORKS = {"unet2d": "cascaded 2D U-Net", "residual3d": "3D residual-encoder U-Net"}


def model_card(record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> str:
    """Return a model card in Markdown for a trained stage, in the form that Hugging Face reads."""
    config = record["config"]
    best = max(history, key=lambda row: row["dice"])
    on = "validation" if record["validation_patients"] else "training (there were no validation patients)"
    lines = [
        "---",
        "license: cc-by-4.0",
        "library_name: pytorch",
        "tags: [medical, segmentation, ct, liver, hcc]",
        "---",
        f"# {record['stage'].capitalize()} network of the {_NETWORKS[config['model']['kind']]}, "
        f"preset '{record['preset']}'",
        "",
        f"Finds the {'liver and tumour' if record['stage'] == 'joint' else record['stage']} in "
        f"{'CT volumes' if config['input']['patches'] else 'axial CT slices'}. "
        f"Trained by hcc-tace-data {record['package']}.",
        "",
        "**Not for clinical use.** Research baseline; not validated on other hospitals, scanners or diseases.",
        "",
        "## Data",
        f"- Training: {count(record['train_cases'], 'case')} of {record['data']}; patients in `run.json`.",
        f"- Validation, for choosing the epoch: {count(len(record['validation_patients']), 'patient')}.",
        f"- Store digest: `{record['store_digest']}`. Channels: {', '.join(config['input']['phases'])}.",
        "",
        "## Result",
        f"- Dice by patient on the {on} patients at the best epoch ({int(best['epoch'])} of {len(history)}): "
        f"{best['dice']:.3f}. The epoch was chosen by this figure, so it flatters.",
    ]
    if record["control"]:
        lines.append("- **Control with shuffled labels: this network is meant to be useless.**")
    lines += [
        "",
        "## Files",
        "`best.safetensors`, `last.safetensors` (weights), `log.csv` (figures by epoch), `steps.csv` (loss by step), "
        "`run.json` (configuration, versions, seed, patients), `state.pt` (to resume).",
        "",
        "## Configuration",
        "```json",
        json.dumps(config, indent=1),
        "```",
        "",
    ]
    return "\n".join(lines)


def write_card(path: Path, record: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
    """Write the model card."""
    atomic_write_text(path, model_card(record, history))
