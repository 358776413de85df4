"""Pages of the documentation site that are made from the code: the command, and files of the top level."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.core import TyperGroup

from hcc_tace_data.cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/command.md": command_page(),
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for file in files.documentation_pages():
        if file.src_uri.startswith("rules/HT"):  # listed by the table of rules
            file.inclusion = type(file.inclusion).NOT_IN_NAV
    return files


def command_page() -> str:
    """Return the help of every verb, in Markdown."""
    parts = [
        "# Command\n",
        "`hcc-tace VERB [ROOT] [OPTIONS]`. ROOT is a folder; default: `$HCC_TACE_HOME`, else the user's data folder.\n",
        "Exit codes: 0 fine, 1 findings or failed verification, 2 usage, 3 data not found, 4 network, 5 internal "
        "error, 130 stopped by Ctrl-C.\n",
    ]
    for name, verb in VERBS.items():
        found: Any = typer.main.get_command(importlib.import_module(verb.module).app)
        if isinstance(found, TyperGroup):
            parts.append(f"## {name}\n\n{found.help or verb.help}\n")
            parts += [_section(f"{name} {sub}", one, "###") for sub, one in found.commands.items()]
        else:
            parts.append(_section(name, found, "##"))
    return "\n".join(parts)


def _section(name: str, command: Any, level: str) -> str:
    words = [
        one.name.upper() if one.required else f"[{one.name.upper()}]"
        for one in command.params
        if one.param_type_name == "argument"
    ]
    rows = [f"| {_flags(one)} | {_cell(one)} |" for one in command.params if one.name != "help"]
    usage = " ".join(["hcc-tace", name, *words])
    table = ["| argument or option | what it does |", "|---|---|", *rows] if rows else []
    return "\n".join([f"{level} {name}\n", f"`{usage}`\n", f"{command.help or ''}\n", *table, ""])


def _flags(one: Any) -> str:
    if one.param_type_name == "argument":
        return one.name.upper()
    return ", ".join(f"`{flag}`" for flag in one.opts)


def _cell(one: Any) -> str:
    text = (one.help or "").replace("|", "\\|").replace("\n", " ")
    shown = getattr(one, "show_default", False) and one.default not in (None, False, (), [])
    return f"{text} Default: `{getattr(one.default, 'value', one.default)}`." if shown else text
