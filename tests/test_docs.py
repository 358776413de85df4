"""Every snippet of README and docs runs as written, every link leads somewhere, every variable is documented."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from hcc_tace_data.cli.main import main
from hcc_tace_data.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
#: Programs other than ours that a snippet may call; none of them is run.
_OTHER = ("pip", "make", "python", "cd", "torchrun", "dask", "cp", "nnUNetv2_plan_and_preprocess", "nnUNetv2_train",
          "nnUNetv2_predict")  # fmt: skip


class Snippet(NamedTuple):
    """One fenced block: its language, its lines, and why it is not run, if it is not."""

    language: str
    body: str
    why: str


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [Snippet(one["language"], one["body"], one["why"] or "") for one in _FENCE.finditer(text)]


def commands(body: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block; a trailing backslash joins lines."""
    for line in body.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def parse(words: list[str]) -> None:
    """Check verb, options and arguments of a command line without running it."""
    command: Any = typer.main.get_command(importlib.import_module(VERBS[words[0]].module).app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_parser(typer.Context(command)).parse_args(list(rest))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str], Path], None]:
    """Return a function that runs `hcc-tace phantom twin ...` in a folder; the same command is run only once."""
    made: dict[tuple[str, ...], Path] = {}

    def copy(words: list[str], into: Path) -> None:
        key = tuple(words)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("twin") / "twin"
            assert main([words[0], str(made[key]), *words[2:], "--workers", "1", "-q"]) == 0
        shutil.copytree(made[key], into / words[1])

    return copy


PHANTOM = next(
    words[1:] for one in snippets(ROOT / "README.md") if one.language == "sh"
    for words in commands(one.body) if words[:3] == ["hcc-tace", "phantom", "twin"]
)  # fmt: skip
RUN = [page for page in PAGES if any(one.language in ("python", "sh") for one in snippets(page))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_snippets_run(
    page: Path,
    twins: Callable[[list[str], Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    if not any(PHANTOM[:2] == words[1:3] for one in snippets(page) if not one.why for words in commands_of(one)):
        twins(PHANTOM, tmp_path)
    for one in snippets(page):
        if one.language == "python":
            code = compile(one.body, str(page), "exec")
            if not one.why:
                exec(code, names)
        for words in commands_of(one):
            if words[0] != "hcc-tace":
                assert words[0] in _OTHER, f"unknown program {words[0]} in {page.name}"
                assert words[0] != "make" or re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
            elif one.why:
                parse(words[1:])
            elif words[1:3] == PHANTOM[:2]:
                twins(words[1:], tmp_path)
            else:
                assert main(words[1:]) == 0, f"{shlex.join(words)}: {capsys.readouterr().err}"


def commands_of(one: Snippet) -> list[list[str]]:
    return list(commands(one.body)) if one.language == "sh" else []


def test_no_command_escapes_the_test() -> None:
    for page in PAGES:
        for one in snippets(page):
            if one.language not in ("sh", "python"):
                assert not re.search(r"^(\$ )?hcc-tace ", one.body, re.M), f"mark the block of {page.name} as sh"
        outside = _FENCE.sub("", page.read_text(encoding="utf-8"))
        assert not re.search(r"^    (hcc-tace |from hcc_tace_data)", outside, re.M), f"fence the code of {page.name}"
        assert "```" not in outside.replace("````", ""), f"a block of {page.name} is not closed"


def test_most_snippets_are_run() -> None:
    every = [one for page in PAGES for one in snippets(page) if one.language in ("sh", "python")]
    assert sum(not one.why for one in every) > 2 * sum(bool(one.why) for one in every)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    generated = {"reference/command.md", "changelog.md", "contributing.md"}  # by scripts/docs_hooks.py
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?://|mailto:", target):
            made = os.path.relpath(page.parent / target, ROOT / "docs").replace(os.sep, "/") in generated
            assert made or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pages_stand_in_the_navigation() -> None:
    text = (ROOT / "scripts" / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/]+\.md)$", text, re.M))
    here = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    assert {page for page in here - listed if not re.fullmatch(r"rules/HT\d+\.md", page)} == set()
    assert listed - here == {"reference/command.md", "changelog.md", "contributing.md"}
    assert yaml.safe_load(text)["validation"]["links"] == dict.fromkeys(
        ("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"
    )


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture.stat().st_size < 300 * 1024, f"{picture.name} is too large"


def test_environment_variables_are_documented() -> None:
    page = set(re.findall(r"HCC_TACE_[A-Z0-9_]+", (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")))
    used: set[str] = set()
    for folder in ("hcc_tace_data", "loaders", "validators", "tests", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"[\"'](HCC_TACE_[A-Z0-9_]+)[\"']", path.read_text(encoding="utf-8")))
    assert used == page


def test_the_prose_check_reads_what_people_read() -> None:
    spec = importlib.util.spec_from_file_location("check_prose", ROOT / "scripts" / "check_prose.py")
    assert spec is not None
    assert spec.loader is not None
    prose = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prose)
    wrong = "an" + "ew"  # as the check reads this file too
    source = f'"""Made\n{wrong}."""\n\n# a row\n# a patient\n{wrong} = f(1)  # fine\n'
    read = [(ROOT / "x.py", line, text) for line, text in prose.strings(source)]
    assert [text.split("\n")[0] for _, _, text in read] == ['"""Made', "a row", "fine"]
    assert [line.partition(": ")[0] for line in prose.house_style(read)] == ["x.py:2", "x.py:4"]
    page = f"Made `{wrong}`.\n```sh\n{wrong}\n```\n{wrong}\n"
    (found,) = prose.house_style([(ROOT / "x.md", 1, prose.without_code(page))])
    assert found.startswith(f"x.md:5: '{wrong}'")


def test_the_notebook_runs(
    twins: Callable[[list[str], Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    twins(PHANTOM, tmp_path)
    notebook = nbformat.read(ROOT / "examples" / "getting_started.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without results
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources=resources).execute()
    shown = [kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", {})]
    assert "image/png" in shown
    assert shown.count("text/html") >= 5
