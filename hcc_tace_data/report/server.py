"""A server for one browser on this machine: a patient, and the others of the collection on request.

It listens on the loopback interface alone, on a port that the system picks. Every address begins with a secret
token; a request whose Host header names anything but this server (a page elsewhere that rebinds its name) is refused.
Nothing it serves is looked up on disk by a name from a request: patients are those it was started with.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.report.volumes import PatientVolumes

__all__ = ["ViewerServer"]

logger = logging.getLogger(__name__)

_STATIC = {
    "": ("viewer.html", "text/html; charset=utf-8"),
    "viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "niivue.umd.js": ("niivue.umd.js", "text/javascript; charset=utf-8"),
    "niivue-LICENSE.txt": ("niivue-LICENSE.txt", "text/plain; charset=utf-8"),
}
#: Patients whose volumes stay in memory.
_KEPT = 2
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class ViewerServer(ThreadingHTTPServer):
    """Serve the CT volumes and labels of patients; ``serve_forever`` runs until ``shutdown``.

    Parameters
    ----------
    volumes : PatientVolumes
        The patient to show first.
    others : sequence of str
        All patients that may be shown, in order.
    load : callable, optional
        Returns the volumes of another patient.
    """

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 512  # a browser that asks for all slices at once; the standard is 5

    def __init__(
        self,
        volumes: PatientVolumes,
        *,
        others: Sequence[str] = (),
        load: Callable[[str], PatientVolumes] | None = None,
    ) -> None:
        self.volumes = volumes
        self.others = tuple(others) if load is not None else ()
        self._load = load
        self._kept = OrderedDict({volumes.patient_id: volumes})
        self._lock = Lock()
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """The port the system picked."""
        return int(self.server_address[1])

    def patient(self, name: str) -> PatientVolumes | None:
        """Return the volumes of a patient (the first one if `name` is empty); None if it is not one to show."""
        if not name or name == self.volumes.patient_id:
            return self.volumes
        if self._load is None or name not in self.others:
            return None
        with self._lock:
            if name not in self._kept:
                self._kept[name] = self._load(name)
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return self._kept[name]

    @property
    def url(self) -> str:
        """Address of the page, token included."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a request raised, such as a browser that went away; the standard one prints it."""
        logger.debug("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    server_version, sys_version = "hcc-tace", ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer with a file of the page, the description of the patient, or a volume."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer as GET, without the body."""
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        status, kind, content = self._find()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _find(self) -> tuple[HTTPStatus, str, bytes]:
        own = {f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"}
        if self.headers.get("Host", "") not in own:
            return _text(HTTPStatus.FORBIDDEN, "This server answers to its own address only.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in own}:
            return _text(HTTPStatus.FORBIDDEN, "This server answers its own page only.")
        path, _, query = self.path.partition("?")
        _, _, rest = path.partition("/")
        token, slash, name = rest.partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return _text(HTTPStatus.FORBIDDEN, "The address lacks the token; use the one that hcc-tace view printed.")
        if name in _STATIC:
            file, kind = _STATIC[name]
            return HTTPStatus.OK, kind, (files("hcc_tace_data.report") / "static" / file).read_bytes()
        try:
            volumes = self.server.patient(parse_qs(query).get("patient", [""])[0])
            if volumes is None:
                return _text(HTTPStatus.NOT_FOUND, "There is no such patient here.")
            if name == "patient.json":
                described = {**volumes.describe(), "patients": self.server.others}
                return HTTPStatus.OK, "application/json", json.dumps(described, ensure_ascii=False).encode()
            return _volume(volumes, name)
        except HccTaceError as error:
            return _text(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests for who asks for it, without the token."""
        logger.debug("%s", (format % args).replace(self.server.token, "..."))


def _volume(volumes: PatientVolumes, name: str) -> tuple[HTTPStatus, str, bytes]:
    kind = "application/octet-stream"
    if name == "labels.nii":
        return HTTPStatus.OK, kind, volumes.labels()
    if name == "prediction.nii":
        return HTTPStatus.OK, kind, volumes.predicted()
    numbers = {f"ct-{number}.nii": number for number in range(len(volumes.volumes))}
    if name in numbers:
        return HTTPStatus.OK, kind, volumes.ct(numbers[name])
    carried = {
        f"carried-{number}.nii": number for number, shown in enumerate(volumes.volumes) if not shown.shares_labels
    }
    if name in carried:
        return HTTPStatus.OK, kind, volumes.carried(carried[name])
    return _text(HTTPStatus.NOT_FOUND, "There is nothing here.")


def _text(status: HTTPStatus, text: str) -> tuple[HTTPStatus, str, bytes]:
    return status, "text/plain; charset=utf-8", (text + "\n").encode()
