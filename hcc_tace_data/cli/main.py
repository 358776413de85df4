"""The command `hcc-tace`: a table of verbs, each loaded only when it is called.

The first word picks the verb, the rest goes to that verb's Typer application. This is done by hand because a group of
the command library would import every verb, and with them the scientific stack, to print `--help`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hcc_tace_data.cli.verbs import VERBS
from hcc_tace_data.errors import CollectionNotFoundError, DownloadError, FolderLockedError, HccTaceError
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import is_no_room
from hcc_tace_data.system.text import text_width, visible_lines, wrapped
from hcc_tace_data.system.words import did_you_mean
from hcc_tace_data.version import __version__

__all__ = ["EXIT_FINDINGS", "EXIT_INTERNAL", "EXIT_NETWORK", "EXIT_NOT_FOUND", "EXIT_OK", "EXIT_USAGE", "main"]

EXIT_OK, EXIT_FINDINGS, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_NETWORK, EXIT_INTERNAL = range(6)
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code (0 fine ... 5 internal error, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, level = False, logging.WARNING
    while words and words[0] in {"-v", "--verbose", "--debug"}:
        debug = debug or words[0] == "--debug"
        level = logging.DEBUG if debug else logging.INFO
        words.pop(0)
    _set_up_logging(level)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in {"-h", "--help"}:
        return _out(_help())
    if words[0] == "--version":
        return _out(f"hcc-tace {__version__}")
    verb = VERBS.get(words[0])
    if verb is None:
        hint = did_you_mean(words[0], VERBS, "'hcc-tace --help' lists the verbs.")
        _err(f"hcc-tace: no verb '{words[0]}'. {hint}")
        return EXIT_USAGE
    return _run(words[0], verb.module, [_current(word) for word in words[1:]], debug=debug)


def _run(name: str, module: str, words: list[str], *, debug: bool) -> int:
    import typer  # noqa: PLC0415 - slow to import

    try:
        command = typer.main.get_command(import_module(module).app)
        _shorten_types(command)
        # not command.main(): that turns a closed pipe and Ctrl-C into exit codes of its own
        with command.make_context(f"hcc-tace {name}", words) as context:
            result = command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _err("Stopped.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as error:  # the library that prints the help ends the process where the reader has gone
        if isinstance(error.__context__, BrokenPipeError):
            return EXIT_OK
        raise
    except HccTaceError as error:
        if debug:
            raise
        _err(f"hcc-tace: {error}")
        return exit_code_of(error)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of the command library
            if hasattr(error, "message"):  # "Value error, 'pixel' is not one of ..."
                error.message = error.message.replace("Value error, ", "")
            error.show()
            return EXIT_USAGE
        if debug:
            raise
        if is_no_room(error):
            _err(
                f"hcc-tace: the disk is full, or a limit on the size of files is reached ({reason_of(error)}). "
                "Make room, then run the same command again."
            )
            return EXIT_USAGE
        _err(
            f"hcc-tace: internal error: {type(error).__name__}: {error}\n"
            f"This is a defect of hcc-tace-data; 'hcc-tace --debug {name} ...' shows where."
        )
        return EXIT_INTERNAL
    return result if isinstance(result, int) else EXIT_OK


#: What the help calls the value of an option; its own words ("<int range>") leave no room for the text in 80 columns.
_VALUES: dict[object, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH", list[int]: "N", list[str]: "TEXT"}


def _shorten_types(command: Any) -> None:
    for one in getattr(command, "commands", {}).values():
        _shorten_types(one)
    help_option = command.get_help_option(command.context_class(command))  # kept by the command for later
    for one in (*command.params, *filter(None, [help_option])):
        if one.param_type_name == "argument" and hasattr(one, "display_type_rich"):
            one.display_type_rich = _no_type  # its name and its text say what it is
        if one.param_type_name != "option" or one.metavar is not None:
            continue
        # releases of typer without this attribute show their own names
        kind = getattr(getattr(one, "type_descriptor", None), "annotation", None)
        if one.is_flag:
            one.metavar = ""
        elif kind in _VALUES:
            one.metavar = _VALUES[kind]


def _no_type(**_: Any) -> None:
    """Show no type."""


def _current(word: str) -> str:
    """Return an option under the name it has now: `--patients` was `--patient` on some verbs."""
    name, equals, value = word.partition("=")
    return "--patients" + equals + value if name == "--patient" else word


def exit_code_of(error: HccTaceError) -> int:
    """Exit code that tells a script what kind of error this was."""
    if isinstance(error, CollectionNotFoundError):
        return EXIT_NOT_FOUND
    if isinstance(error, DownloadError) and not isinstance(error, FolderLockedError):
        return EXIT_NETWORK
    return EXIT_USAGE


class _Visible(logging.Formatter):
    """Escapes what a terminal would act on: messages name files, and files have any name."""

    def format(self, record: logging.LogRecord) -> str:
        return visible_lines(super().format(record))


def _set_up_logging(level: int) -> None:
    """Let remarks of the package go to standard error, unless the caller has set up logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(message)s" if level == logging.WARNING else "%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def _help() -> str:
    width = max(map(len, VERBS), default=0)
    rows = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "Usage: hcc-tace [--verbose | --debug] VERB [ROOT] [OPTIONS]",
            "",
            "The HCC-TACE-Seg collection: fetch it, verify and validate it, train on it.",
            "",
            "Verbs ('hcc-tace VERB --help' or 'hcc-tace help VERB' shows the options of one):",
            *rows,
            "",
            "ROOT is a folder; default: $HCC_TACE_HOME, else the user's data folder.",
            "Exit codes: 0 fine, 1 findings or failed verification, 2 usage, 3 data not",
            "found, 4 network, 5 internal error, 130 stopped by Ctrl-C.",
        ]
    )


def _reader_has_gone() -> int:
    """Make `hcc-tace list | head` end well: nothing more is written, also not when Python closes its streams."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_OK


def _out(text: str) -> int:
    try:
        sys.stdout.write(visible_lines(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_has_gone()
    return EXIT_OK


def _err(text: str) -> None:
    shown = visible_lines(text)
    if sys.stderr.isatty():  # where a program reads, an error is one line
        shown = wrapped(shown, text_width(sys.stderr), indent=0)
    sys.stderr.write(shown + "\n")
