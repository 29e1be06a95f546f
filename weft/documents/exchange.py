"""Files that take each other's place in one step, so that what was there a moment ago is never lost."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2
"""RENAME_EXCHANGE of renameat2(2)."""

_CANNOT: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EXDEV})
"""What file systems say that know no hard links, such as FAT and some shared folders."""


def exchange(one: Path, other: Path) -> bool:
    """Let two files change names; False: this system or file system cannot, and nothing was done."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return done == 0


@cache
def _renameat2() -> Any:
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2  # glibc 2.28, musl 1.2.6
    except (AttributeError, OSError):
        return None
    found.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return found


def name_if_free(file: Path, name: Path) -> bool:
    """Give a file a further name, unless there is a file of this name; return whether it was done.

    Where the file system knows no second name, the file is moved there.
    """
    try:
        os.link(file, name, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        if os.path.lexists(name):
            return False
        file.rename(name)
    return True
