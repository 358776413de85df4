"""Copies catalog.yaml, which stands at the top of the repository, into the wheel, and compiles what is compiled."""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """`build_py` that also places catalog.yaml inside the package."""

    def _catalog(self) -> tuple[str, str]:
        return "catalog.yaml", str(Path(self.build_lib, "hcc_tace_data", "catalog.yaml"))

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            source, target = self._catalog()
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        extra = [] if self.editable_mode else [self._catalog()[1]]
        return [*super().get_outputs(include_bytecode), *extra]

    def get_output_mapping(self) -> dict[str, str]:
        mapping = dict(super().get_output_mapping())
        if not self.editable_mode:
            source, target = self._catalog()
            mapping[target] = source
        return mapping

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), "catalog.yaml"]


# Without a compiler the package works as well, only slower: copies.py does the same by NumPy.
COPIES = Extension(
    "hcc_tace_data.loaders.supply._copies",
    ["loaders/supply/_copies.c"],
    extra_compile_args=["/std:c11"] if os.name == "nt" else ["-O3"],
    py_limited_api=True,
    optional=True,
)

setup(
    cmdclass={"build_py": BuildPy},
    ext_modules=[COPIES],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
