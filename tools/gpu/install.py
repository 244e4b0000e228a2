"""An environment of the running interpreter's packages, the given wheels and this repository. Standard library only.

Wheels are unpacked here and the package is built by calling its build backend: pip may be missing, and starts slowly.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path, PurePosixPath

# Runs in the new environment: the backend's editable wheel. The sources are independent, so they are compiled side by
# side; `keep` leaves out the compiler.
BUILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from setuptools import build_meta
from setuptools._distutils import ccompiler
target, keep, workers = sys.argv[1], sys.argv[2] == "keep", int(sys.argv[3])
sys.argv[1:] = []
if keep:
    from setuptools.command.build_ext import build_ext
    build_ext.run = lambda self: None

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
            extra_postargs=None, depends=None):
    macros, objects, extra, flags, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    arguments = self._get_cc_args(flags, debug, extra_preargs)
    def one(item):
        self._compile(item[0], *item[1], arguments, extra, flags)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, build.items()))
    return objects

if not keep and hasattr(ccompiler.CCompiler, "_setup_compile"):
    ccompiler.CCompiler.compile = compile
build_meta.build_editable(target)
"""


CARRIED, BUILT = "carried", "built here"


def make_environment(folder: Path, wheels: Path, root: Path) -> tuple[Path, str]:
    """The new environment's interpreter, and where its kernels come from: those that are there already are kept."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    there = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    there = there or [sysconfig.get_path("purelib")]
    # The name decides the order: behind everything that is unpacked here.
    (site / "zz_running_interpreter.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in there))
    for wheel in sorted(wheels.glob("*.whl")):
        unpack(wheel, site)
    (folder / "built").mkdir()
    here = any(root.glob("set_cli/native/_core*.so"))
    return python, install_package(python, folder, root, keep=here)


def unpack(wheel: Path, site: Path) -> None:
    """The wheel's files, where Python finds them; scripts and headers are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or ".." in parts or member.filename.startswith("/"):
                continue
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as output:
                shutil.copyfileobj(source, output)


def install_package(python: Path, folder: Path, root: Path, *, keep: bool) -> str:
    """Install the repository as editable, and say where its kernels come from.

    keep  the compiled kernels that are there
    """
    built, site = folder / "built", next(folder.glob("lib/python*/site-packages"))
    if not _build(python, root, built, keep=keep) and (keep or not _build(python, root, built, keep=True)):
        # The last way: a copy, which has the configuration where the package looks for it.
        shutil.copytree(root / "set_cli", site / "set_cli", symlinks=True)
        shutil.copytree(root / "conf", site / "set_cli" / "conf")
        return "whatever is there, the build backend failed (install.log)"
    for wheel in built.glob("*.whl"):
        unpack(wheel, site)
    return CARRIED if keep else BUILT


def _build(python: Path, root: Path, built: Path, *, keep: bool) -> bool:
    command = [str(python), "-c", BUILD, str(built), "keep" if keep else "build", str(os.cpu_count() or 1)]
    with (built / "install.log").open("ab") as log:
        return subprocess.run(command, cwd=root, stdout=log, stderr=subprocess.STDOUT, check=False).returncode == 0
