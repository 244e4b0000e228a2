#!/bin/sh
# Collect the wheels that tools/gpu_check.py needs beside torch, for a Linux machine that has no network.
#
#     tools/gpu_wheels.sh [--python 3.12] DIR
#
# Versions are those of constraints.txt. What the machine has with torch (numpy, SciPy, matplotlib, pytest, ...) is left out.
set -eu
version=3.12
if [ "${1:-}" = --python ]; then
    version=$2
    shift 2
fi
[ $# -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
target=$(cd "$1" && pwd)
python=${PYTHON:-python3}

packages="hydra-core omegaconf PyYAML packaging pydantic pydantic_core annotated-types typing-inspection typing_extensions
pooch platformdirs igraph texttable rich markdown-it-py mdurl Pygments pandas python-dateutil tzdata click tabulate
setuptools"
from_source="antlr4-python3-runtime"

pinned() { # name==version as constraints.txt has it, else the name
    grep -i "^$1==" "$here/constraints.txt" || echo "$1"
}

requirements=
for package in $packages; do
    requirements="$requirements $(pinned "$package")"
done
# shellcheck disable=SC2086  # one word each
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$version" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64 --dest "$target" $requirements
for package in $from_source; do
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$target" "$(pinned "$package")"
done
find "$target" -maxdepth 1 -name '*.whl' | wc -l | tr -d '\n'
echo " wheels, $(du -sk "$target" | cut -f1) KiB in $target"
