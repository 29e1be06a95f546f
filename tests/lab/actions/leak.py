from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel, ConfigDict

from weft.sdk import ActionContext, ActionError, Json


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    where: Literal[
        "output", "key", "error", "crash", "log", "emit", "base64", "details", "deadline", "nowhere", "pieces"
    ]


async def leak(arguments: Arguments, context: ActionContext) -> Json:
    """Let the connection's secret out by one of the ways out."""
    connection = context.connection
    assert connection is not None
    secret = connection.secret("token")
    assert secret is not None
    token = secret.reveal()
    match arguments.where:
        case "output":
            return {"echoed": ["before", f"Bearer {token} after"]}
        case "key":
            return {token: 1}
        case "base64":
            return {"echoed": base64.b64encode(f"user:{token}".encode()).decode()}
        case "error":
            raise ActionError(f"The other side said {token}.", remedy=f"Change {token}.", kind="refused")
        case "details":
            raise ActionError("The other side said no.", kind="refused", details={"body": token})
        case "crash":
            raise KeyError(token)
        case "log":
            context.log(f"asked with {token}", header=[f"Bearer {token}"])
        case "emit":
            context.emit(f"asked with {token}")
        case "pieces":
            for start in range(0, len(token), 5):
                context.emit(token[start : start + 5])
        case "deadline":
            return {"remaining_s": context.remaining_s()}
        case "nowhere":
            pass
    return {"connection": repr(connection), "secret": f"{secret}"}
