"""Throughput and memory of a download, against bare s5cmd on the same server and the same bytes.

    python benchmarks/download.py [--server plain|moto] [--root FULL_PHANTOM] [--patients N] [--repeats N] [--json FILE]

Of the two servers on loopback, `moto` is a whole S3 server; `plain` answers what s5cmd asks (lists and whole objects)
from memory and costs as little as a server can, so that nothing but the client's own work is left to compare. The
files that arrive are compared first, then the time. Bare s5cmd is timed twice: as it is, and until what it wrote is on
disk, which is when a download of ours ends. Memory is also measured for series that come as zips from an NBIA server.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hcc_tace_data import make_phantom
from hcc_tace_data.downloads.s5cmd import binary
from hcc_tace_data.integrity.ledger import md5_of

SERVER = """
import sys, json, socketserver, http.server
from urllib.parse import urlsplit, parse_qs, unquote
objects = {}
for key, path, md5 in json.load(sys.stdin):
    objects[key] = (open(path, "rb").read(), md5)
bucket = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    def log_message(self, *_): pass
    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            rows = "".join(f"<Contents><Key>{key}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
                           f"<ETag>&quot;{md5}&quot;</ETag><Size>{len(data)}</Size></Contents>"
                           for key, (data, md5) in objects.items() if key.startswith(prefix))
            answer = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
            return self.answer(200, answer.encode())
        found = objects.get(unquote(parts.path).partition(f"/{bucket}/")[2])
        if found is None: return self.answer(404, b"")
        data, md5 = found
        self.answer(206, data, [("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}"), ("ETag", f'"{md5}"')])
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

MOTO = """
import sys, json, http.client, logging, threading
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
address = server.get_host_and_port()
bucket = sys.argv[1]
made = http.client.HTTPConnection(*address)
signed = "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request"
headers = {"x-amz-acl": "public-read", "Authorization": signed}
def put(path, body):
    made.request("PUT", path, body=body, headers=headers)
    answer = made.getresponse()
    answer.read()
    if answer.status != 200: sys.exit(f"{path}: {answer.status}")
put(f"/{bucket}", b"")
for key, path, _ in json.load(sys.stdin): put(f"/{bucket}/{key}", open(path, "rb").read())
print(address[1], flush=True)
threading.Event().wait()
"""

NBIA = """
import sys, json, os, shutil, socketserver, http.server, tempfile, zipfile
from urllib.parse import urlsplit, parse_qs
series = json.load(sys.stdin)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        parts = urlsplit(self.path)
        files = series[parse_qs(parts.query)["SeriesInstanceUID"][0]]
        with tempfile.TemporaryFile() as body:
            if parts.path.endswith("getSOPInstanceUIDs"):
                body.write(json.dumps([{"SOPInstanceUID": os.path.basename(path)[:-4]} for path, _ in files]).encode())
            else:
                with zipfile.ZipFile(body, "w") as opened:
                    for path, _ in files: opened.write(path, os.path.basename(path))
                    rows = "".join(f"{os.path.basename(path)},{md5}\\n" for path, md5 in files)
                    opened.writestr("md5hashes.csv", "Filename,MD5Hash\\n" + rows)
            self.send_response(200)
            self.send_header("Content-Length", str(body.tell()))
            self.end_headers()
            body.seek(0)
            shutil.copyfileobj(body, self.wfile)
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

SERVERS = {"plain": SERVER, "moto": MOTO}
OURS = "hcc-tace download (command, all checks)"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a phantom of full size; made if it is missing")
    parser.add_argument("--patients", type=int, default=8, help="its patients, if it is made (233 MB each)")
    parser.add_argument("--server", choices=("plain", "moto"), default="plain")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        phantom = options.root or Path(scratch) / "phantom"
        if not (phantom / "series.csv").is_file():
            make_phantom(phantom, patients=options.patients, size="full")
        with open(phantom / "series.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        objects, series = [], {}
        for row in rows:
            folder = phantom / row["patient_id"] / row["study_uid"] / f"{row['modality']}_{row['series_uid']}"
            files = [(str(path), md5_of(path)) for path in sorted(folder.iterdir())]
            series[row["series_uid"]] = files
            objects += [(f"{row['prefix']}/{Path(path).name}", path, md5) for path, md5 in files]
        bucket = rows[0]["bucket"]
        with serving(SERVERS[options.server], objects, bucket) as store, serving(NBIA, series) as nbia:
            run(phantom, Path(scratch), store, nbia, bucket, [row["prefix"] for row in rows], objects, options)


@contextmanager
def serving(script: str, content: Any, *words: str) -> Iterator[str]:
    """Run a server of its own process that holds `content`; yield its address."""
    server = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdin is not None
        assert server.stdout is not None
        json.dump(content, server.stdin)
        server.stdin.close()
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()


def run(
    phantom: Path,
    scratch: Path,
    url: str,
    nbia: str,
    bucket: str,
    prefixes: list[str],
    objects: list[tuple[str, str, str]],
    options: argparse.Namespace,
) -> None:
    """Compare what arrives, then the time."""
    target = scratch / "target"
    commands = "".join(f"cp 's3://{bucket}/{prefix}/*' {prefix}/\n" for prefix in prefixes)
    ours = [sys.executable, "-m", "hcc_tace_data", "download", str(target), "--table", str(phantom / "series.csv")]
    ours += ["--endpoint", url, "--yes", "--quiet"]

    def bare(workers: int, until_on_disk: bool = False) -> None:
        target.mkdir()
        words = [binary(), "--no-sign-request", "--endpoint-url", url, "--numworkers", str(workers), "run"]
        environment = {"AWS_REGION": "us-east-1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            words, input=commands, text=True, cwd=target, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr[:500]
        if until_on_disk:
            os.sync()

    tasks = {
        "bare s5cmd, 16 workers": lambda: bare(16),
        "bare s5cmd, 16 workers, until on disk": lambda: bare(16, until_on_disk=True),
        "bare s5cmd, 256 workers (its default)": lambda: bare(256),
        OURS: lambda: subprocess.run(ours, check=True),
    }
    wanted = sorted(md5 for _, _, md5 in objects)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    peaks: list[tuple[float, float]] = []
    for turn in range(options.repeats + 1):
        for name, task in tasks.items():
            os.sync()  # none pays for what the one before it left unwritten
            with Memory() as watch:
                start = time.perf_counter()
                task()
                took = time.perf_counter() - start
            if name == OURS:
                peaks.append(watch.peak)
            arrived = sorted(
                hashlib.md5(path.read_bytes()).hexdigest()
                for path in target.rglob("*.dcm")
                if ".hcc-tace" not in path.parts
            )
            assert arrived == wanted, f"{name}: other files than the server's"
            if turn:  # the first is not counted
                times[name].append(took)
            shutil.rmtree(target)
    size = sum(Path(path).stat().st_size for _, path, _ in objects)
    print(f"{len(objects)} files, {size / 1e6:.1f} MB, {options.repeats} runs each; all files equal")
    medians = {name: statistics.median(values) for name, values in times.items()}
    own = medians[OURS]
    for name, seconds in medians.items():
        print(f"  {name:<42} {seconds:6.2f} s  {size / seconds / 1e6:7.1f} MB/s  ours / this {own / seconds:.2f}")
    mine, all_of_it = (max(values) for values in zip(*peaks, strict=True))
    print(f"  peak memory: {mine / 1e6:.0f} MB, with s5cmd {all_of_it / 1e6:.0f} MB")
    with Memory() as watch:
        subprocess.run([*ours, "--source", "nbia", "--endpoint", nbia], check=True)
    print(f"  peak memory from NBIA, 4 series at a time: {watch.peak[0] / 1e6:.0f} MB")
    if options.json:
        found = {"median_s": medians, "seconds": times, "bytes": size}
        found |= {"peak_bytes": mine, "peak_bytes_nbia": watch.peak[0]}
        options.json.write_text(json.dumps(found))


class Memory(threading.Thread):
    """Watches the resident memory of `hcc-tace download`, alone and with what it starts, as a context manager."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self.peak = (0.0, 0.0)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        """Look every 20 ms."""
        me = psutil.Process()
        while not self._done.wait(0.02):
            for child in me.children():
                try:
                    if "hcc_tace_data" not in child.cmdline():
                        continue
                    own = child.memory_info().rss
                    both = own + sum(one.memory_info().rss for one in child.children(recursive=True))
                except psutil.Error:
                    continue
                self.peak = max(self.peak[0], own), max(self.peak[1], both)


if __name__ == "__main__":
    main()
