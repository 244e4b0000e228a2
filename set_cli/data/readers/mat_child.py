"""The child that reads a .mat from stdin: `python -m set_cli.data.readers.mat_child OUT.npz LIMIT NAME…`."""

from __future__ import annotations

import io
import resource
import sys
import warnings


def main() -> int:
    from set_cli.data.readers.mat import MEMORY, SECONDS

    out, limit, *names = sys.argv[1:]
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY + 3 * int(limit)),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, int(limit) + 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    import numpy as np
    import scipy.io

    content = sys.stdin.buffer.read()
    warnings.simplefilter("ignore")
    try:
        found = scipy.io.loadmat(io.BytesIO(content), variable_names=names, mat_dtype=False)
        arrays = {name: found[name] for name in names if name in found}
        for name, array in arrays.items():
            if type(array) is not np.ndarray or array.dtype.kind not in "buif":  # functions and objects are subclasses
                found_type = array.dtype if type(array) is np.ndarray else type(array).__name__
                print(f"{name}: expected an array of numbers, found {found_type}", file=sys.stderr)
                return 1
        np.savez(out, allow_pickle=False, **arrays)
    except NotImplementedError:  # MATLAB 7.3 files are HDF5
        print("MATLAB 7.3 files are not read; save it with -v7", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
