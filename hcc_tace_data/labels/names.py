"""Class numbers of label maps, by what they stand for; built on the segment vocabulary of ``catalog.yaml``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hcc_tace_data.facts.catalog import Catalog

__all__ = ["class_names", "classes_of", "tumour_classes", "whole_liver_classes"]

Classes = Mapping[int, tuple[str, ...]]


def class_names(catalog: Catalog, label_set: str) -> dict[int, str]:
    """Return class number -> name of a label set, ascending.

    Raises
    ------
    CatalogError
        There is no such label set.

    Examples
    --------
    >>> class_names(Catalog.load(), "standard")
    {1: 'liver', 2: 'tumour', 3: 'portal vein', 4: 'aorta'}
    """
    catalog.classes(label_set)
    return {item.number: item.name for item in sorted(catalog.label_sets[label_set], key=lambda item: item.number)}


def classes_of(classes: Classes, keys: Collection[str]) -> tuple[int, ...]:
    """Return the numbers of the classes that hold nothing but segments named in `keys`, ascending."""
    return tuple(sorted(number for number, segments in classes.items() if set(segments) <= set(keys)))


def whole_liver_classes(catalog: Catalog, classes: Classes | None = None) -> tuple[int, ...]:
    """Return the class numbers that together are the whole liver.

    Parameters
    ----------
    catalog : Catalog
    classes : mapping of int to tuple of str, optional
        Class number -> segment keys; default: the label set "standard".

    Examples
    --------
    >>> whole_liver_classes(Catalog.load())
    (1, 2, 3)
    """
    found = catalog.classes("standard") if classes is None else classes
    return classes_of(found, catalog.vocabulary.whole_liver)


def tumour_classes(catalog: Catalog, classes: Classes | None = None) -> tuple[int, ...]:
    """Return the class numbers of the tumour; the parameters are those of :func:`whole_liver_classes`.

    Examples
    --------
    >>> tumour_classes(Catalog.load())
    (2,)
    """
    found = catalog.classes("standard") if classes is None else classes
    return classes_of(found, catalog.vocabulary.tumour)
