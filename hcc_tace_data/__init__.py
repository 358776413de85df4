"""The HCC-TACE-Seg collection: fetched, checked and served for training.

Public names are loaded on first use (:pep:`562`), so importing the package is cheap and never loads torch.
"""

# no `from __future__ import annotations`: the name would be importable from here
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.version import __version__ as __version__

# In a checkout `validators` and `loaders` stand beside this package; installed, they are inside it.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "catalog.yaml").is_file() and str(_CHECKOUT) not in __path__:
    __path__.append(str(_CHECKOUT))

if TYPE_CHECKING:
    from hcc_tace_data.clinical import load_clinical as load_clinical
    from hcc_tace_data.downloads import download as download
    from hcc_tace_data.facts.catalog import Catalog as Catalog
    from hcc_tace_data.labels.fuse import fuse_staple as fuse_staple
    from hcc_tace_data.loaders.load import load_hcc_tace as load_hcc_tace
    from hcc_tace_data.loaders.units import Patches as Patches
    from hcc_tace_data.loaders.units import Slices as Slices
    from hcc_tace_data.measure.tables import measure_lesions as measure_lesions
    from hcc_tace_data.open import open_collection as open_collection
    from hcc_tace_data.outcome.tasks import load_task as load_task
    from hcc_tace_data.phantom import make_phantom as make_phantom
    from hcc_tace_data.phases.label import label_phases as label_phases
    from hcc_tace_data.validators import validate as validate


_PUBLIC = {
    "Catalog": "hcc_tace_data.facts.catalog",
    "Patches": "hcc_tace_data.loaders.units",
    "Slices": "hcc_tace_data.loaders.units",
    "download": "hcc_tace_data.downloads",
    "fuse_staple": "hcc_tace_data.labels.fuse",
    "label_phases": "hcc_tace_data.phases.label",
    "load_clinical": "hcc_tace_data.clinical",
    "load_hcc_tace": "hcc_tace_data.loaders.load",
    "load_task": "hcc_tace_data.outcome.tasks",
    "make_phantom": "hcc_tace_data.phantom",
    "measure_lesions": "hcc_tace_data.measure.tables",
    "open_collection": "hcc_tace_data.open",
    "validate": "hcc_tace_data.validators",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'hcc_tace_data' has no attribute {name!r}") from None
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
