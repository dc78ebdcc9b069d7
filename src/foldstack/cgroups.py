"""Limits of a container on Linux: the control groups of this process, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cpu_quotas() -> Iterator[float]:
    """Yield each limit on CPU time, in cores."""
    for folder in _folders("cpu"):
        quota = _words(folder / "cpu.max")
        quota = quota or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] not in ("max", "-1"):
            yield int(quota[0]) / int(quota[1])


def memory_limits() -> Iterator[int]:
    """Yield each limit on memory, in bytes."""
    return (limit for _, limit in _memory_limits())


def memory_left() -> Iterator[int]:
    """Yield, per limit on memory, the bytes that it still allows; files that can be dropped are free."""
    for folder, limit in _memory_limits():
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if used:
            yield limit - int(used[0]) + _inactive_files(folder)


def _memory_limits() -> Iterator[tuple[Path, int]]:
    for folder in _folders("memory"):
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if limit and limit != ["max"]:
            yield folder, int(limit[0])


def _inactive_files(folder: Path) -> int:
    words = _words(folder / "memory.stat")
    counts = dict(zip(words[::2], words[1::2], strict=False))
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups, innermost first.

    Inside a container the first ones may be the host's and not exist.
    """
    for line in _text(OWN).splitlines():
        _, names, place = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = GROUPS / controller if names else GROUPS
        own = top / place.strip("/")
        yield from (path for path in (own, *own.parents) if path.is_relative_to(top))


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    """Return a file's text; empty if there is none to read."""
    try:
        return path.read_text()
    except OSError:
        return ""
