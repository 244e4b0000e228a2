"""What pyproject.toml cannot say: the packages, the top-level `conf/` as set_cli.conf, and the compiled kernels."""

from __future__ import annotations

import itertools
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("set_cli/native/src")
# Compiled once for each instruction set.
PER_PROCESSOR = ("products", "elementwise", "normalization", "units", "inputs")
ONCE = ("module", "calls", "stack", "steps", "rbm", "topology", "paths", "team")
if platform.system() == "Darwin":
    # A universal Python would compile everything for both processors, and intrinsics are for one.
    os.environ.setdefault("ARCHFLAGS", f"-arch {platform.machine()}")
IS_X86 = platform.machine().lower() in ("x86_64", "amd64") and "arm64" not in os.environ.get("ARCHFLAGS", "")
# Never -march=native: what is built here may run elsewhere, so the processor is asked when the module is loaded.
INSTRUCTION_SETS: dict[int, list[str]] = {0: []}
if IS_X86:
    INSTRUCTION_SETS[2] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS[512] = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx2", "-mfma"]
    INSTRUCTION_SETS[512] += ["-mprefer-vector-width=512"]
# Not -ffast-math: it reorders sums, and makes GCC spill the register tile. Contraction is what FMA units are for.
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wextra", "-g0"]
FLAGS += ["-pthread"]
FLAGS += ["-Wno-maybe-uninitialized", "-Wno-unknown-warning-option"]  # of the compiler's own intrinsics


class BuildKernels(build_ext):  # type: ignore[misc]
    """Compiles the numerical sources once per instruction set; the extension is optional, so a failure is a warning."""

    def build_extension(self, ext: Extension) -> None:
        extra = os.environ.get("SET_SANITIZE", "").split()  # `make test-sanitized`
        flags = FLAGS + extra

        def compile_one(job: tuple[int, str]) -> list[str]:
            instruction_set, name = job
            objects: list[str] = self.compiler.compile(
                [str(SOURCES / f"{name}.cpp")],
                output_dir=str(Path(self.build_temp, f"simd{instruction_set}")),
                macros=[("SET_ISA", str(instruction_set))],
                include_dirs=[str(SOURCES)],
                extra_postargs=flags + INSTRUCTION_SETS[instruction_set],
                depends=ext.depends,
            )
            return objects

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time of an installation
            for objects in pool.map(compile_one, itertools.product(INSTRUCTION_SETS, PER_PROCESSOR)):
                ext.extra_objects += objects
        ext.extra_compile_args = flags
        ext.extra_link_args = ["-pthread", *extra]
        super().build_extension(ext)


macros: list[tuple[str, str | None]] = [("Py_LIMITED_API", "0x030B0000")]
core = Extension(
    "set_cli.native._core",
    [str(SOURCES / f"{name}.cpp") for name in ONCE],
    depends=sorted(str(path) for path in SOURCES.glob("*.[ch]pp")),
    define_macros=macros + ([("SET_X86", None)] if IS_X86 else []),
    py_limited_api=True,
    language="c++",
    optional=True,  # without a compiler everything works, on torch's slower products
)
options: dict[str, Any] = {"bdist_wheel": {"py_limited_api": "cp311"}}
setup(
    packages=[*find_packages(include=["set_cli", "set_cli.*"]), "set_cli.conf"],
    ext_modules=[core],
    cmdclass={"build_ext": BuildKernels},
    options=options,
)
