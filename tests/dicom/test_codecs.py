"""Slices in codecs that no encoder of the test environment writes: streams of `7 * row + 30 * column`, 24 x 30."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.decode import by_pydicom, open_for_pixels
from hcc_tace_data.dicom.gdcm import GdcmProcess
from hcc_tace_data.errors import DicomReadError

#: High-throughput JPEG 2000, 16 bits, signed and 1024 less.
HT_SIGNED = (
    "|4;u>04YEK0000U0000O00000000000000U0000O000000000000EBy0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
    "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000o&W*=lfVEbXZ-?)bO68r6F>kGfJXcRhjak$0S9ydzyK4#"
    "01<#3IQ#+vbN~u70KfnhPyhu;005s4z=tq`wE({F`@jGJzP13s02L4b1z`Vw=f7X8b^zYp-QD_fd-uugxB$QaEjR!Ls=C&?*0rv6"
    "t@-_azhAG{;0t>IOp+u?lH~t!fRaCCp8b-0_DSr&0RPz"
)
#: The same unsigned.
HT_UNSIGNED = (
    "|4;u>04YEK0000U0000O00000000000000U0000O0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
    "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000o&W*=lfVEbXZ-~SbO68r6F>kGfJXcRhjak$0S9ydzyK4#"
    "01<#3IQ#+vbN~u70KfnhPyhu;005s4z=tq`wE({F`@jGJzP13s02L4b1z`Vw=f7X8b^zYp-QD_fd-uugxB$QaEjR!Ls=C&?*0rv6"
    "t@-_azhAG{;0t>IOp+u?lH~t!fRaCCp8b-0_DSr&0RPz"
)
#: JPEG Lossless, 12 bits, unsigned.
LOSSLESS = (
    "|JeV;02TlN0RaF20000000000000031q}bg01FHN7yupt01*KH+5iXv000I60MGvbdiCqquU@@+_3PKKUcGwt>({Sdy?XWQ*PRg&"
    "5fKp)5fKp)5fKp)9T5=`5fKp)5fKp)5fKp`5fKp)5fKp)5fKp)5fL2`5fKp)5fKp)5fKp)5gic`5fKp)5fKp)5fKp)9T5=`5fKp)"
    "5fKp)5fKp`5fKp)5fKp)5fKp)5fL2`5fKp)5fKp)5fKp)5gic`5fKp)5fKp)5fKp)9T5=`5fKp)5fKp)5fKp`5fKp)5fKp)5fKp)"
    "5fL2`5fKp)5fKp)5fKp)5gic`5fKp)5fKp)5fKp)9T5=`5fKp)5fKp)5fKp`5fKp)5fKp)5fKp)5fL2`5fKp)5fKp)5fKp)5gic`"
    "5fKp)5fKp)5fKp)9T5=`5fKp)5fKp)5fKp`5fKp)5fKp)5fKp)5fL2`5fKp)5fKp)5fKp)5gic`5fKp)5fKp)5fKp)9T5=`5fKp)"
    "5fKp)5fKp`5fKp)5fKp)5fKp)5fK3Y*#"
)
HT = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
STREAMS = {
    **{(uid, signed): (stream, 16) for uid in HT for signed, stream in ((True, HT_SIGNED), (False, HT_UNSIGNED))},
    **{(uid, False): (LOSSLESS, 12) for uid in ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")},
}
WriteCT = Callable[..., list[Path]]


def _slice(file: Path, uid: str, stream: bytes, bits: int, signed: bool) -> None:
    ds = pydicom.dcmread(file)
    assert (ds.Rows, ds.Columns) == (24, 30)
    ds.file_meta.TransferSyntaxUID = uid
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(file, enforce_file_format=True)


@pytest.mark.parametrize(("uid", "signed"), STREAMS)
def test_a_slice_is_what_was_encoded(write_ct: WriteCT, tmp_path: Path, uid: str, signed: bool) -> None:
    files = write_ct(tmp_path, depth=1)
    text, bits = STREAMS[uid, signed]
    _slice(files[0], uid, base64.b85decode(text), bits, signed)
    row, column = np.mgrid[:24, :30]
    values = 7 * row + 30 * column - (1024 if signed else 0)
    np.testing.assert_array_equal(read_ct(files).array[0], values - 1024)


@pytest.mark.parametrize("cut", [40, 90, 200])
def test_a_stream_cut_short_is_refused(write_ct: WriteCT, tmp_path: Path, cut: int) -> None:
    files = write_ct(tmp_path, depth=1)
    stream = base64.b85decode(HT_UNSIGNED)[:cut]
    _slice(files[0], HT[0], stream + b"\0" * (len(stream) % 2), 16, False)
    with pytest.raises(DicomReadError, match=files[0].name):
        read_ct(files)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110", "1.2.3.4.5", "1.3.46.670589.33.1.4.1"]
)
def test_a_codec_that_nothing_decodes_is_refused_by_name(write_ct: WriteCT, tmp_path: Path, uid: str) -> None:
    """Video, JPEG XL, a private syntax: the error names the file and the transfer syntax."""
    files = write_ct(tmp_path, depth=1)
    ds = pydicom.dcmread(files[0])
    ds.file_meta.TransferSyntaxUID = uid
    ds.PixelData = encapsulate([b"\0" * 100])
    ds["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(files[0], ds, implicit_vr=False, little_endian=True, force_encoding=True)
    with pytest.raises(DicomReadError) as caught:
        read_ct(files)
    assert files[0].name in str(caught.value)
    assert uid in str(caught.value)


def _lossless(write_ct: WriteCT, folder: Path, stream: bytes) -> Path:
    file = write_ct(folder, depth=1)[0]
    _slice(file, "1.2.840.10008.1.2.4.70", stream, 12, False)
    return file


def test_damage_that_ends_gdcm_is_an_error_and_the_next_image_is_read(write_ct: WriteCT, tmp_path: Path) -> None:
    stream = bytearray(base64.b85decode(LOSSLESS))
    good = _lossless(write_ct, tmp_path / "good", bytes(stream))
    stream[stream.index(b"\xff\xc3") + 4] = 255  # precision of the frame
    bad = _lossless(write_ct, tmp_path / "bad", bytes(stream))
    with GdcmProcess() as gdcm:
        for _ in range(2):
            with pytest.raises(ValueError, match="GDCM"):
                gdcm.decode(open_for_pixels(bad))
            row, column = np.mgrid[:24, :30]
            np.testing.assert_array_equal(gdcm.decode(open_for_pixels(good)), 7 * row + 30 * column)
    with pytest.raises(DicomReadError, match=bad.name):
        read_ct([bad])


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has no SIGSTOP to halt a process with")
def test_an_image_that_takes_too_long_is_given_up(
    write_ct: WriteCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_for_pixels(_lossless(write_ct, tmp_path, base64.b85decode(LOSSLESS)))
    with GdcmProcess() as gdcm:
        values = gdcm.decode(data)
        os.kill(gdcm._process.pid, signal.SIGSTOP)
        monkeypatch.setattr("hcc_tace_data.dicom.gdcm._LONGEST", 0.2)
        with pytest.raises(ValueError, match=r"GDCM took more than 0\.2 seconds"):
            gdcm.decode(data)
        monkeypatch.undo()
        np.testing.assert_array_equal(gdcm.decode(data), values)


@pytest.mark.parametrize("uid", [JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless])
def test_pydicom_never_hands_a_stream_to_gdcm(
    write_ct: WriteCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    """Where python-gdcm is installed, a damaged stream would end this process."""
    asked: list[str] = []
    decoder = get_decoder(uid)
    monkeypatch.setattr(decoder, "_available", {**decoder._available, "gdcm": lambda *_: asked.append("gdcm") or b""})
    file = write_ct(tmp_path, depth=1)[0]
    stream = base64.b85decode(LOSSLESS)
    _slice(file, uid, stream if uid == JPEGLosslessSV1 else b"\xff\xd8\xff\xf7" + bytes(60), 12, False)
    data = open_for_pixels(file)
    with contextlib.suppress(DicomReadError):
        read_ct([file])
    with pytest.raises((RuntimeError, ValueError)):
        by_pydicom(data)
    assert not asked
