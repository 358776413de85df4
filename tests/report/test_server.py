"""The viewer's server: who may ask, and what is answered."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from hcc_tace_data import open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import PatientNotFoundError, RegistrationError
from hcc_tace_data.report.server import ViewerServer
from hcc_tace_data.report.volumes import PatientVolumes
from hcc_tace_data.volumes.grids import through


@pytest.fixture(scope="module")
def server(twin: Path, predicted: Path) -> Iterator[ViewerServer]:
    volumes = PatientVolumes(open_collection(twin), "HCC_003", prediction=predicted / "HCC_003.nii.gz")
    with ViewerServer(volumes) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: ViewerServer, path: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in ({"Host": f"127.0.0.1:{server.port}"} | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_loopback_alone_and_another_port_and_token_each_time(server: ViewerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with ViewerServer(server.volumes) as other:
        assert other.port != server.port
        assert other.token != server.token
    assert len(server.token) >= 32


def test_who_may_ask(server: ViewerServer) -> None:
    token = server.token
    assert ask(server, f"/{token}/")[0] == 200
    assert ask(server, f"/{token}/", Host=f"localhost:{server.port}")[0] == 200
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", f"127.0.0.1:{server.port + 1}", ""):
        assert ask(server, f"/{token}/patient.json", Host=host)[0] == 403
    assert ask(server, f"/{token}/patient.json", Origin="http://evil.example")[0] == 403
    assert ask(server, f"/{token}/patient.json", Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    for path in ("/", "/patient.json", "//patient.json", f"/{token}", f"/{token[:-1]}/", f"/{token}x/", "/%00/"):
        status, _, body = ask(server, path)
        assert status == 403
        assert b"HCC_003" not in body


def test_two_hundred_requests_at_once_are_all_answered(server: ViewerServer) -> None:
    """All connections are open before the first is served: the queue of the socket must hold them."""
    paths = ("", "patient.json", "viewer.css", "ct-0.nii")
    wanted = {path: ask(server, f"/{server.token}/{path}")[2] for path in paths}
    connections = []
    for number in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        connections.append((paths[number % len(paths)], connection))
    for path, connection in connections:
        head = f"GET /{server.token}/{path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
    for path, connection in connections:
        with connection, connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == wanted[path]


def test_other_patients_are_served_on_request(twin: Path, server: ViewerServer) -> None:
    collection = open_collection(twin)
    loaded: list[str] = []

    def load(name: str) -> PatientVolumes:
        loaded.append(name)
        return PatientVolumes(collection, name)

    assert ask(server, f"/{server.token}/patient.json?patient=HCC_017")[0] == 404, "this server has one patient"
    with ViewerServer(server.volumes, others=tuple(collection), load=load) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            first, other = (
                json.loads(ask(running, f"/{running.token}/patient.json{query}")[2])
                for query in ("", "?patient=HCC_017")
            )
            volume = ask(running, f"/{running.token}/ct-0.nii?patient=HCC_017")
            stranger = ask(running, f"/{running.token}/patient.json?patient=..%2FHCC_017")[0]
        finally:
            running.shutdown()
            thread.join()
    assert (first["patient"], other["patient"]) == ("HCC_003", "HCC_017")
    assert first["patients"] == other["patients"] == list(collection)
    assert volume[0] == 200
    assert stranger == 404
    assert loaded == ["HCC_017"]


def test_nothing_on_disk_is_named_by_a_request(server: ViewerServer) -> None:
    for name in ("../server.py", "..%2fserver.py", "/etc/passwd", "ct-99.nii", "ct--1.nii", "viewer.js/", "report.css"):
        assert ask(server, f"/{server.token}/{name}")[0] == 404
    assert ask(server, f"/{server.token}/", method="POST")[0] == 501
    status, headers, body = ask(server, f"/{server.token}/patient.json", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 100
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_volumes_are_those_of_another_library(server: ViewerServer, tmp_path: Path) -> None:
    described = json.loads(ask(server, f"/{server.token}/patient.json")[2])
    (number,) = [index for index, volume in enumerate(described["volumes"]) if volume["annotated"]]
    assert {volume["visit"] for volume in described["volumes"]} == {"baseline", "follow-up"}
    assert described["prediction"] is True
    path = tmp_path / "ct.nii"
    path.write_bytes(ask(server, f"/{server.token}/ct-{number}.nii")[2])
    ours = sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in server.volumes.volumes[number].paths])
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-6)
    labels = tmp_path / "labels.nii"
    labels.write_bytes(ask(server, f"/{server.token}/labels.nii")[2])
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(labels))))) == {0, 1, 2, 3, 4}
    assert ask(server, f"/{server.token}/prediction.nii")[2][:4] == ask(server, f"/{server.token}/labels.nii")[2][:4]


def test_labels_are_carried_to_the_follow_up(server: ViewerServer, twin: Path, tmp_path: Path) -> None:
    """They lie where the twin's true motion puts them, on the follow-up's own grid."""
    described = json.loads(ask(server, f"/{server.token}/patient.json")[2])["volumes"]
    assert {(item["visit"], item["labels"], item["carried"]) for item in described} == {
        ("baseline", True, False),
        ("follow-up", False, True),
    }
    rows = json.loads((twin / "truth" / "transforms.json").read_text())
    truth = {
        (row["series_uid"], row["volume"]): np.array(row["annotated_to_volume"])
        for row in rows
        if row["patient_id"] == "HCC_003"
    }
    annotated = next(item for item in server.volumes.volumes if item.annotated)
    drawn = read_ct(list(annotated.paths))
    labels = _array(tmp_path / "labels.nii", ask(server, f"/{server.token}/labels.nii")[2])
    (number,) = [
        index for index, item in enumerate(described) if item["visit"] == "follow-up" and "enous" in item["name"]
    ]
    files = server.volumes.volumes[number].paths
    target = read_ct(list(files))
    status, _, body = ask(server, f"/{server.token}/carried-{number}.nii")
    assert status == 200
    carried = _array(tmp_path / "carried.nii", body)
    assert carried.shape == target.array.shape
    image = sitk.ReadImage(str(tmp_path / "carried.nii"))
    np.testing.assert_allclose(image.GetOrigin(), target.affine[:3, 3], atol=1e-3)
    motion = truth[pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID, 1]
    for label in (1, 2):
        expected = through(labels == label, drawn.affine, target.affine, carried.shape, np.linalg.inv(motion))
        found = carried == label
        assert 2 * (expected & found).sum() / (expected.sum() + found.sum()) > 0.9, label
    for index, item in enumerate(described):
        wanted = 200 if item["carried"] else 404
        assert ask(server, f"/{server.token}/carried-{index}.nii", method="HEAD")[0] == wanted


def _array(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_labels_are_not_carried_by_an_implausible_registration(twin: Path, refused: list[int]) -> None:
    volumes = PatientVolumes(open_collection(twin), "HCC_003")
    number = next(index for index, item in enumerate(volumes.volumes) if item.visit == "follow-up")
    for _ in range(2):
        with pytest.raises(RegistrationError, match="it turns by 90 degrees"):
            volumes.carried(number)
    assert refused == [2], "a refused registration is kept"


def test_a_volume_that_cannot_be_read_says_why(twin: Path, predicted: Path) -> None:
    volumes = PatientVolumes(open_collection(twin), "HCC_017", prediction=predicted / "HCC_017.nii.gz")
    with ViewerServer(volumes) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            status, _, body = ask(running, f"/{running.token}/prediction.nii")
        finally:
            running.shutdown()
            thread.join()
    assert status == 422
    assert b"mm from its CT" in body


def test_an_unknown_patient_is_named(twin: Path) -> None:
    with pytest.raises(PatientNotFoundError, match="HCC_777"):
        PatientVolumes(open_collection(twin), "HCC_777")
