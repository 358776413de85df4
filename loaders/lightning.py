"""A data module for Lightning, where it is installed."""

from __future__ import annotations

import os
from typing import Any

from torch.utils.data import DataLoader

from hcc_tace_data.errors import DependencyError, UsageError
from hcc_tace_data.loaders.datasets import BatchedDataset, CaseDataset
from hcc_tace_data.loaders.load import load_hcc_tace
from hcc_tace_data.loaders.supply.batches import StoredBatches

try:
    from lightning.pytorch import LightningDataModule
except ImportError:
    raise DependencyError("HccTaceDataModule needs Lightning: pip install lightning.") from None

__all__ = ["HccTaceDataModule"]


class HccTaceDataModule(LightningDataModule):
    """The three parts of the collection's split, as Lightning loads them.

    Slices and patches come from ``ds.batches``, whose shares follow the rank of the process. Volumes, and samples with
    a transform, come from a ``DataLoader``.

    Parameters
    ----------
    root : path-like, optional
        The collection's folder; see :func:`hcc_tace_data.load_hcc_tace`.
    batch_size : int
        Samples in a batch.
    num_workers : int
        Worker processes of a ``DataLoader``.
    **options
        Passed to :func:`hcc_tace_data.load_hcc_tace`: `unit`, `phases`, `fold` and so on.

    Raises
    ------
    UsageError
        `split` or `format` among the options.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None = None, *, batch_size: int = 8, num_workers: int = 0, **options: Any
    ) -> None:
        super().__init__()
        refused = sorted({"split", "format", "streaming"} & set(options))
        if refused:
            raise UsageError(f"HccTaceDataModule serves all splits for PyTorch; leave out {', '.join(refused)}.")
        self.root, self.batch_size, self.num_workers, self.options = root, batch_size, num_workers, options
        self.parts: dict[str, CaseDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Load the parts that `stage` ("fit", "validate", "test", "predict"; None for all) needs."""
        # Lightning passes an enumeration whose values are these words
        wanted = {
            "fit": ("train", "validation"), "validate": ("validation",), "test": ("test",), "predict": ("test",),
        }.get(str(getattr(stage, "value", stage)), ("train", "validation", "test"))  # fmt: skip
        for split in wanted:
            if split not in self.parts:
                load: Any = load_hcc_tace  # its options are checked there
                self.parts[split] = load(self.root, split=split, **self.options)

    def train_dataloader(self) -> StoredBatches | DataLoader[Any]:
        """Return shuffled batches of the training part."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> StoredBatches | DataLoader[Any]:
        """Return the batches of the validation part, in order."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> StoredBatches | DataLoader[Any]:
        """Return the batches of the test part, in order."""
        return self._loader("test", shuffle=False)

    def predict_dataloader(self) -> StoredBatches | DataLoader[Any]:
        """Return the batches of the test part, in order."""
        return self.test_dataloader()

    def _loader(self, split: str, *, shuffle: bool) -> StoredBatches | DataLoader[Any]:
        if split not in self.parts:
            raise UsageError(f"the part '{split}' is not loaded; call setup() first, as a Trainer does.")
        part = self.parts[split]
        if isinstance(part, BatchedDataset) and part.transform is None:
            return part.batches(self.batch_size, shuffle=shuffle)
        return DataLoader(part, self.batch_size, shuffle=shuffle, num_workers=self.num_workers)
