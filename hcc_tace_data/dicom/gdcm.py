"""GDCM in a process of its own, for compressed pixels that pydicom's plugins do not decode, such as JPEG Lossless.

GDCM comes with SimpleITK. A damaged stream can end the process that decodes it, or keep it busy for minutes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["GdcmProcess"]

#: Any class will do whose pixels are served as stored.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PIXEL_MODULE = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip
#: Seconds that one image may take; one of 512 x 512 takes some hundredths.
_LONGEST = 8.0
#: Seconds that Python and SimpleITK may take to start.
_START = 60.0
_IMAGE, _ARRAY = "slice.dcm", "slice.npy"


class GdcmProcess:
    """A process that decodes one image after the other. Use it as a context manager; it starts at the first image."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> GdcmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def decode(self, data: Dataset) -> npt.NDArray[Any]:
        """Decode the pixels of a data set.

        Parameters
        ----------
        data : pydicom.Dataset
            With its file meta information and pixels.

        Returns
        -------
        ndarray of integer, shape (rows, columns) or (frames, rows, columns)

        Raises
        ------
        ValueError
            They cannot be decoded, end the process, or take longer than eight seconds.
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hcc-tace-")
        folder = Path(self._folder.name)
        _write_bare(data, folder / _IMAGE)
        if self._process is None:
            self._process = _started(folder)
            self._ask(self._process, _START)
        problem = self._ask(self._process, _LONGEST)
        if problem:
            raise ValueError(problem)
        array: npt.NDArray[Any] = np.load(folder / _ARRAY, allow_pickle=False)
        return array[0] if array.ndim == 3 and len(array) == 1 else array

    def _ask(self, process: subprocess.Popen[bytes], seconds: float) -> str:
        """Have the process do its next step; return what it says of it."""
        line = b""
        late = Timer(seconds, process.kill)
        late.daemon = True
        late.start()
        try:
            if process.stdin and process.stdout:
                process.stdin.write(b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
        except OSError:  # it has ended
            pass
        finally:
            slow = not late.is_alive()
            late.cancel()
        if line.endswith(b"\n"):
            return line.decode(errors="replace").strip()
        self._stop()
        if slow:
            raise ValueError(f"GDCM took more than {seconds:g} seconds")
        raise ValueError(f"GDCM broke down (exit status {process.returncode})")

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not written
                    pipe.close()
        process.wait()


def _write_bare(data: Dataset, file: Path) -> None:
    """Write a file that holds the pixels of a data set and nothing else."""
    from pydicom import Dataset
    from pydicom.uid import generate_uid

    bare = Dataset()
    bare.file_meta = data.file_meta
    bare.SOPClassUID = _SECONDARY_CAPTURE
    bare.SOPInstanceUID, bare.StudyInstanceUID, bare.SeriesInstanceUID = (generate_uid() for _ in range(3))
    bare.Modality = "OT"
    for name in _PIXEL_MODULE:
        setattr(bare, name, data[name].value)
    bare["PixelData"] = data["PixelData"]
    bare["PixelData"].is_undefined_length = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare.save_as(file, enforce_file_format=True)


def _started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the caller alone, which ends this process
    )


def _serve() -> None:
    """Decode an image for each line read; answer with a line that is empty or says what is wrong."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # GDCM prints
    import SimpleITK

    sitk: Any = SimpleITK  # untyped
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(_IMAGE)
    sys.stdin.buffer.readline()
    answers.write(b"\n")
    while sys.stdin.buffer.readline():
        said = ""
        try:
            np.save(_ARRAY, sitk.GetArrayFromImage(reader.Execute()))
        except Exception as error:
            lines = str(error).strip().splitlines()
            said = lines[-1] if lines else type(error).__name__
        answers.write(said.encode(errors="replace") + b"\n")


if __name__ == "__main__":
    _serve()
