"""A line in the effects log is one write to a file opened for appending: it survives the death of the process."""

from __future__ import annotations

import os
import time

from weft.sdk import ActionContext

EFFECTS = "FAULTS_EFFECTS"
"""Names the file."""


def mark(context: ActionContext, what: str) -> None:
    """Append `time pid what run path attempt repeated`."""
    words = (
        time.clock_gettime(time.CLOCK_REALTIME),
        os.getpid(),
        what,
        context.run_id,
        context.path,
        context.attempt,
        int(context.repeated),
    )
    handle = os.open(os.environ[EFFECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(handle)
