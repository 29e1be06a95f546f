"""Tests connections of type `apprise` without sending anything."""

from __future__ import annotations

from weft.sdk import ActionContext, ActionError, Connection

from ._apprise import job, notify, service_of


async def test(connection: Connection, context: ActionContext) -> str:
    """Let Apprise read the fields or the address; whether the service takes them, only a notification would show.

    Raises:
        ActionError: The service or its fields are wrong, or else nobody can say (kind `untestable`).
    """
    service = service_of(connection)
    await notify(job(connection, service, {}, connection.get("targets")), connection, context, send=False)
    raise ActionError(
        f"The fields have the form that {service.title} asks for. Whether it accepts them shows only when a notification"
        " is sent.",
        kind="untestable",
        effect="none",
        remedy="Run a workflow that sends one.",
    )
