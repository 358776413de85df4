"""Throughput and memory of a download, against bare s5cmd on the same server and the same bytes.

    python benchmarks/download.py [--root FULL_PHANTOM] [--repeats N] [--json FILE]

The server is this script's: plain HTTP on loopback that answers what s5cmd asks (lists and whole objects) from memory,
so that the server costs as little as can be. The files that arrive are compared first, then the time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import full_patient

from hcc_tace_data.downloads.s5cmd import binary
from hcc_tace_data.ledger import md5_of

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


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a phantom of full size; made if it is missing")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with full_patient(options.root, "HCC_002") as phantom, tempfile.TemporaryDirectory() as scratch:
        with open(phantom / "series.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        objects = []
        for row in rows:
            for path in sorted(
                (phantom / row["patient_id"] / row["study_uid"] / f"{row['modality']}_{row['series_uid']}").iterdir()
            ):
                objects.append((f"{row['prefix']}/{path.name}", str(path), md5_of(path)))  # noqa: PERF401 - clearer
        bucket = rows[0]["bucket"]
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, bucket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert server.stdin is not None
        assert server.stdout is not None
        json.dump(objects, server.stdin)
        server.stdin.close()
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            run(phantom, Path(scratch), url, bucket, [row["prefix"] for row in rows], objects, options)
        finally:
            server.kill()
            server.wait()


def run(
    phantom: Path,
    scratch: Path,
    url: str,
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

    def bare(workers: int) -> None:
        target.mkdir()
        words = [binary(), "--no-sign-request", "--endpoint-url", url, "--numworkers", str(workers), "run"]
        environment = {"AWS_REGION": "us-east-1", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            words, input=commands, text=True, cwd=target, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr

    tasks = {
        "bare s5cmd, 16 workers": lambda: bare(16),
        "bare s5cmd, 256 workers (its default)": lambda: bare(256),
        "hcc-tace download (command, all checks)": lambda: subprocess.run(ours, check=True),
    }
    wanted = sorted(md5 for _, _, md5 in objects)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    peaks: list[tuple[float, float]] = []
    for turn in range(options.repeats + 1):
        for name, task in tasks.items():
            watch = Memory() if name.startswith("hcc-tace") else None
            if watch:
                watch.start()
            start = time.perf_counter()
            task()
            took = time.perf_counter() - start
            if watch:
                peaks.append(watch.stop())
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
    own = medians["hcc-tace download (command, all checks)"]
    for name, seconds in medians.items():
        print(f"  {name:<42} {seconds:6.2f} s  {size / seconds / 1e6:7.1f} MB/s")
    print(f"  ours / bare s5cmd with as many workers: {own / medians['bare s5cmd, 16 workers']:.2f}")
    print(f"  ours / bare s5cmd with its default:     {own / medians['bare s5cmd, 256 workers (its default)']:.2f}")
    mine, all_of_it = max(one for one, _ in peaks), max(both for _, both in peaks)
    print(f"  peak memory: {mine / 1e6:.0f} MB, with s5cmd {all_of_it / 1e6:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps({"median_s": medians, "seconds": times, "bytes": size, "peak_bytes": mine}))


class Memory(threading.Thread):
    """Watches the resident memory of `hcc-tace download` and of what it starts, while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._peak = (0.0, 0.0)

    def run(self) -> None:
        """Look every 20 ms."""
        import psutil

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
                self._peak = max(self._peak[0], own), max(self._peak[1], both)

    def stop(self) -> tuple[float, float]:
        """Return the peak, in bytes: of the process, and with its children."""
        self._done.set()
        self.join()
        return self._peak


if __name__ == "__main__":
    main()
