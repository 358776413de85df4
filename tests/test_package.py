"""What is installed, what importing costs, and what is public."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import hcc_tace_data
from hcc_tace_data.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]


def _loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


HEAVY = {
    "torch",
    "pandas",
    "numpy",
    "pydicom",
    "highdicom",
    "SimpleITK",
    "scipy",
    "matplotlib",
    "tcia_utils",
    "datasets",
}


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not _loaded_by("import hcc_tace_data") & (HEAVY | {"yaml", "typer", "rich"})


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded_by("from hcc_tace_data.cli.main import main\nmain(['--help'])")
    assert not loaded & (HEAVY | {"typer", "rich", "idc_index"})


def test_opening_a_collection_does_not_load_torch() -> None:
    assert "torch" not in _loaded_by("from hcc_tace_data import open_collection, load_clinical, make_phantom")


def test_importing_the_loaders_loads_nothing_heavy() -> None:
    assert not _loaded_by("import hcc_tace_data.loaders") & HEAVY
    assert not _loaded_by("from hcc_tace_data.loaders import Slices; Slices(size=3)") & HEAVY


def test_public_names() -> None:
    # those whose modules exist; the others come with the parts they belong to
    assert set(hcc_tace_data.__all__) == set(hcc_tace_data._PUBLIC) | {"__version__"}
    for name in hcc_tace_data.__all__:
        assert getattr(hcc_tace_data, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_hcc'"):
        _ = hcc_tace_data.load_hcc


def test_packages_listed_are_the_folders_there_are() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = []
    for top, prefix in (("hcc_tace_data", ""), ("loaders", "hcc_tace_data."), ("validators", "hcc_tace_data.")):
        for init in (ROOT / top).rglob("__init__.py"):
            found.append(prefix + ".".join(init.parent.relative_to(ROOT).parts))  # noqa: PERF401 - clearer
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("name", ["loaders", "validators"])
def test_inner_packages_refuse_their_bare_names(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert f"import this package as hcc_tace_data.{name}" in done.stderr


def _wheel(folder: Path, **environment: str) -> Path:
    """Build a wheel of a copy of the checkout, in which nothing was compiled yet."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "*.egg-info", "build", "__pycache__", ".hypothesis", "demo", "*.so", "*.pyd"
    )
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    done = subprocess.run(
        [*words, str(folder / "source")],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_wheel_exposes_only_the_package(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hcc_tace_data"}
    for needed in (
        "catalog.yaml",
        "py.typed",
        "dicom/ct.py",
        "validators/__init__.py",
        "data/series.csv.gz",
        "data/splits.csv",
        "baseline/presets/paper.yaml",
        "report/templates/report.html.j2",
        "report/static/report.css",
        "report/static/viewer.html",
        "report/static/niivue.umd.js",
        "report/static/niivue-LICENSE.txt",
    ):
        assert f"hcc_tace_data/{needed}" in names
    compiler = (sysconfig.get_config_var("CC") or "").split(" ")[0]
    assert len([name for name in names if name.endswith((".so", ".pyd"))]) == bool(shutil.which(compiler))
    assert not [name for name in names if "/tests/" in name or "test_" in name]


def test_without_a_compiler_a_wheel_copies_by_numpy(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, CC="false")
    words = """
import sys
import sysconfig
sys.path.insert(0, sys.argv[1])
# what the checkout has compiled is not to be found
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")]
import numpy as np
from hcc_tace_data.loaders.supply import copies
assert copies.__file__.startswith(sys.argv[1])
out = np.empty(2, np.float32)
copies.copy_all([(out, np.array([-1024, 40], np.int16))])
print(copies.compiled(), out.tolist())
"""
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
        archive.extractall(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-c", words, str(tmp_path / "installed")],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == "False [-1024.0, 40.0]\n", done.stderr


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    from hcc_tace_data.cli.main import main

    assert main([verb, "--help"]) == 0
    assert "Usage: hcc-tace" in capsys.readouterr().out


def test_wrong_words_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    from hcc_tace_data.cli.main import main

    assert main(["lst"]) == 2
    assert "Did you mean 'list'?" in capsys.readouterr().err
    assert main(["list", "--no-such-option"]) == 2
    assert main(["list", "--patient", "HCC_999"]) == 2
    assert "HCC_999" in capsys.readouterr().err
    assert main(["--version"]) == 0


def test_importing_any_module_opens_no_file_of_ours_but_code() -> None:
    """No catalogue, table or template is read before something is asked for."""
    words = """
import importlib, pkgutil, sys
from pathlib import Path
root = Path(sys.argv[1])
opened = set()
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = Path(arguments[0])
        if path.is_absolute() and path.is_relative_to(root) and path.suffix not in {".py", ".pyc", ".so", ".pyd"}:
            if not {"site-packages", ".venv"} & set(path.parts) and not path.is_dir():
                opened.add(str(path.relative_to(root)))
sys.addaudithook(watch)
import hcc_tace_data
for folder, package in (("hcc_tace_data", "hcc_tace_data"), ("loaders", "hcc_tace_data.loaders"),
                        ("validators", "hcc_tace_data.validators")):
    for path in sorted((root / folder).rglob("*.py")):
        parts = path.relative_to(root / folder).with_suffix("").parts
        name = ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])
        if not name.endswith("__main__"):
            importlib.import_module(name)
print(*sorted(opened))
"""
    done = subprocess.run(
        [sys.executable, "-c", words, str(ROOT)], capture_output=True, text=True, timeout=200, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
