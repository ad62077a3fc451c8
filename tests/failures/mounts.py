"""File systems of a process of its own: small ones that fill up, and ones that turn read-only.

They are seen by the process and its children alone and are gone with them. Needs root, or a Linux that lets
everybody have user namespaces.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS of unshare(2)
_READ_ONLY, _REMOUNT, _ALL_BELOW, _PRIVATE = 1, 32, 1 << 14, 1 << 18  # MS_* of mount(2)


def own_mounts() -> None:
    """Give this process a table of mounts of its own; `OSError` where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_MOUNTS if user == 0 else _NEW_MOUNTS | _NEW_USER)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", None, b"/", None, _ALL_BELOW | _PRIVATE, None)


def mount(folder: Path, kib: int) -> None:
    """Put an empty file system of this size over `folder`."""
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", 0, f"size={kib}k,mode=755".encode())


def resize(folder: Path, kib: int) -> None:
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", _REMOUNT, f"size={kib}k".encode())


def set_read_only(folder: Path, read_only: bool) -> None:
    _call("mount", b"none", os.fsencode(folder), b"tmpfs", _REMOUNT | (_READ_ONLY if read_only else 0), None)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
