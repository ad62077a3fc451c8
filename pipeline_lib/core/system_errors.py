"""Faults of the machine (full disk, read-only folder, no memory), explained with a cure."""

from __future__ import annotations

import errno
import re

_STORAGE = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("your quota of disk space is used up", "Free some space"),
    errno.EROFS: ("the file system is read-only", "Make it writable, or run in another folder"),
    errno.EACCES: ("this user may not read or write it", "Allow it, or run in another folder"),
    errno.EPERM: ("this user may not read or write it", "Allow it, or run in another folder"),
    errno.EFBIG: ("the file would be larger than allowed", "Raise the limit (ulimit -f)"),
    errno.EIO: ("the disk failed", "Check the disk and the kernel's log"),
    errno.ESTALE: ("the network file system lost the folder", "Wait until it is there again"),
}

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "can't start new thread",  # for want of room for its stack
)


def storage_fault(error: BaseException) -> tuple[str, str] | None:
    """(what is wrong with the disk, what to do) if that is what `error` is about.

    Libraries written in Rust (safetensors, tokenizers) raise errors of their own, which have the system's
    error number only in their text.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (told := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(told[1])
    return _STORAGE.get(number) if number is not None else None


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out: Python's, numpy's, torch's on a CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower() if isinstance(error, RuntimeError | OSError) else ""
    return any(said in text for said in _NO_MEMORY)


def explained(error: BaseException) -> str | None:
    """A message for people instead of a traceback, where the machine and not the program is at fault."""
    detail = " ".join(str(error).split())[:300] or type(error).__name__
    if out_of_memory(error):
        return (
            f"memory ran out ({detail}). Lower `batch_size` (raise `accumulation` by as much) or "
            "`evaluation.max_tokens_per_batch`, or ask for more with `resources.memory_mb`; "
            "`unlearning plan` says what each job needs. Then give the same command again."
        )
    if fault := storage_fault(error):
        what, cure = fault
        return f"{what} ({detail}). {cure}, then give the same command again: finished work is kept."
    return None
