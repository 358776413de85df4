"""Every example in a docstring runs and gives what it shows."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _modules() -> list[str]:
    names = []
    for folder, package in (("hcc_tace_data", ""), ("loaders", "hcc_tace_data."), ("validators", "hcc_tace_data.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = package + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if path.name != "__main__.py" and ">>>" in path.read_text(encoding="utf-8"):
                names.append(name)
    return names


@pytest.mark.parametrize("name", _modules())
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples in {name} failed"
