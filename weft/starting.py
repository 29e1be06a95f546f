"""One run for one request, however often it is made (rule A11).

Who sends a webhook or asks the API to start a run sends the same thing again when the answer was lost. The id of the
run follows from the request (`weft.triggers`), and journals accept no id twice; what remains to be told is whether the
second request says what the first one said. For that the trigger of a run holds a hash of what was sent: not of the
inputs, since an edit of the workflow between the two changes those.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from weft.errors import JournalRefused, NotFound
from weft.outcome import decode
from weft.plan import Plan
from weft.runtime import Runtime
from weft.types import Json, JsonObject

SAID: Final = "sha256"
"""The key of a trigger that holds the hash of what was sent."""


@dataclass(frozen=True, slots=True)
class Started:
    """The run of a request."""

    run_id: str
    is_new: bool  #: false: the same request was made before


async def start_once(
    runtime: Runtime,
    planned: Plan,
    inputs: JsonObject,
    *,
    run_id: str,
    trigger: JsonObject,
    said: bytes | Json = None,
    digest: str | None = None,
) -> Started:
    """Accept a run and leave it to the workers, unless the same request has started it before.

    When this returns the run is durable. After a `JournalUnavailable` the same call may be made again.

    Args:
        runtime: Where it runs.
        planned: What it follows.
        inputs: As `Runtime.inputs` returned them.
        run_id: As `trigger_run_id` made it of the request.
        trigger: What starts it, as expressions see it.
        said: What the request says: the bytes of its body, or a JSON value. Left out, the inputs.
        digest: Its hash, where `digest_of` was asked already.

    Raises:
        JournalRefused: The same id has come with another workflow or another content (`other_request`), or the
            workflow's gate lets no more through.
        JournalUnavailable: The journal cannot be used, or its answer was lost.
        NotFound: A connection that the plan names is not there.
    """
    digest = digest or digest_of(inputs if said is None else said)
    try:
        await runtime.submit(planned, inputs, run_id=run_id, trigger={**trigger, SAID: digest})
    except JournalRefused as refused:
        if refused.problem.code != "known_run":
            raise
        known = await started_before(runtime, run_id, planned.workflow.name, digest)
        return known or Started(run_id, is_new=False)  # gone: only the id of a run that was purged is left
    return Started(run_id, is_new=True)


async def started_before(runtime: Runtime, run_id: str, workflow: str, digest: str) -> Started | None:
    """Return the run that a request has started before, None when there is no such run, or none any more.

    Raises:
        JournalRefused: Another request has started it (`other_request`).
    """
    journal = await runtime.opened()
    try:
        row = (await journal.status(run_id)).row
    except NotFound:
        return None
    trigger = decode(row.trigger)
    if row.workflow != workflow or not isinstance(trigger, dict) or trigger.get(SAID) != digest:
        raise JournalRefused(
            f"The same id came before with another content; it has started run {run_id!r}.",
            code="other_request",
            remedy="Give each request an id of its own, and send the same content when you send one again.",
        )
    return Started(run_id, is_new=False)


def digest_of(said: bytes | Json) -> str:
    """Return the hash of what a request says; JSON values that are equal have the same."""
    if not isinstance(said, bytes):
        said = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return hashlib.sha256(said).hexdigest()
