"""How much memory there is left for this process."""

from __future__ import annotations

from pathlib import Path


def left_on_machine() -> int | None:
    """Bytes that this process could still take; None where the system does not say."""
    found = [free for free in (_available(), left_in_group()) if free is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    kibibytes = sum(int(fields[key].split()[0]) for key in ("MemAvailable", "SwapFree") if key in fields)
    return 1024 * kibibytes


RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")  # what the system gives up when asked for memory


def left_in_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves, cached files not counted as taken."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit == "max":
            return None
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached = sum(int(fields.get(name, 0)) for name in RECLAIMABLE)
        return max(0, int(limit) - max(0, int(used) - cached))
    except (OSError, ValueError):
        return None
