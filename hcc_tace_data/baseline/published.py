"""Published figures to read a result beside, each with where it comes from and why it is not the same thing."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LEAK_ABOVE", "PUBLISHED", "Published"]


class Published(NamedTuple):
    """One published Dice of tumours."""

    what: str
    dice: str
    data: str
    caveat: str


#: Nobody has cited a Dice of the paper's own network on this collection.
PUBLISHED: tuple[Published, ...] = (
    Published(
        "Paper's cascaded U-Net", "not published", "HCC-TACE-Seg", "no citable figure on this collection was found"
    ),
    Published(
        "SmoothSegNet", "0.552 (0.841 for tumours of 10 cm and more)", "HCC-TACE-Seg", "another split and preparation"
    ),
    Published("Best of the LiTS challenge", "0.74", "LiTS", "other hospitals, metastases besides HCC, per case"),
    Published("nnU-Net, mean of liver and tumour", "0.80-0.82", "LiTS, 5-fold", "cross-validation, not a test set"),
    Published("nnU-Net, tumour", "0.64 (0.57-0.71 over the folds)", "LiTS, 5-fold", "cross-validation, not a test set"),
    Published(
        "Two readers of HCC", "0.78-0.85", "various", "the ceiling of what agreement with one annotation can mean"
    ),
)

#: Readers agree no better than this: a higher mean on real patients is a leak until shown otherwise.
LEAK_ABOVE = 0.85
