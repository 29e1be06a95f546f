from __future__ import annotations

import time

from weft.sdk import ActionContext, Json

DONE: list[str] = []


def plain(context: ActionContext, how: str = "fine", seconds: float = 0.0) -> Json:
    """Send something from a thread, which nobody can stop."""
    if how == "stop":
        return next(iter([]))
    context.emit(f"{how} ")
    context.log(f"{how} begins")
    time.sleep(seconds)
    DONE.append(how)
    context.emit("after ")
    return {"how": how}
