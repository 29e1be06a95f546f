from __future__ import annotations

import threading
import time

from weft.sdk import ActionContext, Json

CALLS: list[str] = []


def block(context: ActionContext, seconds: float = 0.01) -> Json:
    """Sleep in a thread."""
    CALLS.append(threading.current_thread().name)
    time.sleep(seconds)
    return {"thread": threading.current_thread().name}
