"""From an address to the webhook that a workflow declares, and to the secrets that its requests are signed with."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weft.errors import InvalidDocument, NotFound, WeftError
from weft.plan import Plan
from weft.plan.signing import PREVIOUS, SECRET, signing_facts
from weft.redaction import Secret
from weft.runtime import Runtime
from weft.webhooks import addresses
from weft.webhooks.requests import Refused, Request
from weft.webhooks.styles import BadSecret, Signed, verify
from weft.workflow import Webhook

AGAIN_S: Final = 30.0
"""When to try again what cannot be taken now."""

_LOG = logging.getLogger("weft.webhooks")


GOOD_S: Final = 1.0
"""How long a plan is used for an unchanged document."""

MOST_PLANS: Final = 100


@dataclass(frozen=True, slots=True)
class _Made:
    etag: str
    until: float
    planned: Plan


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of a workflow."""

    planned: Plan
    webhook: Webhook

    @property
    def workflow(self) -> str:
        return self.planned.workflow.name

    @property
    def told(self) -> str:
        return f"{self.workflow}/{self.webhook.name}"


class Hooks:
    """The webhooks of an installation, as this process finds them.

    A plan is made once and used for a second: as long as its document is the same. What else it is made of, child
    workflows and connections, is looked at again after that.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._plans: OrderedDict[str, _Made] = OrderedDict()

    async def at(self, path: str, now: float) -> Hook:
        """Return the webhook that takes what is posted to a path.

        Raises:
            Refused: There is none, there is none any more, or it takes nothing now.
        """
        address = await addresses.find(await self.runtime.opened_state(), path)
        if address is None:
            raise Refused(404, "unknown_webhook", "There is no webhook here.")
        if address.until is not None and address.until <= now:
            raise _gone()
        try:
            planned = await self._plan(address.workflow)
        except NotFound:
            raise _gone() from None
        except InvalidDocument as error:
            _LOG.warning("webhook_failed %s %s", f"{address.workflow}/{address.name}", error.problem)
            raise Refused(503, "faulty_workflow", "The workflow has faults.", retry_after_s=AGAIN_S) from None
        webhook = next((each for each in planned.workflow.on.webhook if each.name == address.name), None)
        if webhook is None:
            raise _gone()
        if not planned.workflow.enabled:
            raise Refused(404, "disabled", "This webhook takes nothing now.")
        return Hook(planned, webhook)

    async def _plan(self, workflow: str) -> Plan:
        etag = (await self.runtime.documents.peek(workflow)).etag
        known = self._plans.get(workflow)
        if known is not None and known.etag == etag and time.monotonic() < known.until:
            return known.planned
        made = _Made(etag, time.monotonic() + GOOD_S, await self.runtime.plan_of(workflow))
        self._plans[workflow] = made
        self._plans.move_to_end(workflow)
        if len(self._plans) > MOST_PLANS:
            self._plans.popitem(last=False)
        return made.planned


def _gone() -> Refused:
    return Refused(410, "gone", "There is no webhook here any more.")


async def signed_by(runtime: Runtime, hook: Hook, request: Request) -> Signed:
    """Return what a request's signature proves.

    Raises:
        Refused: It proves nothing, or it cannot be checked here.
    """
    try:
        return verify(hook.webhook.style, await secrets_of(runtime, hook), request)
    except BadSecret as error:
        raise _unusable(hook, f"the secret of connection {hook.webhook.connection!r} {error}") from None
    except Refused as refused:
        _LOG.warning("webhook_refused %s %s", hook.told, refused.problem.code)
        raise


async def secrets_of(runtime: Runtime, hook: Hook) -> Sequence[Secret]:
    """Return what a request may be signed with, the newest first.

    Raises:
        Refused: The connection is not there, or has no such secret; the log says more.
    """
    name = hook.webhook.connection
    try:
        facts = signing_facts(runtime.connections, runtime.registry, name)
        if facts is None:
            raise NotFound(f"There is no connection {name!r}.", code="unknown_connection")
        connection = await runtime.connections.get(name, facts.type)
    except WeftError as error:
        raise _unusable(hook, str(error.problem)) from None
    found = [secret for field_ in (SECRET, PREVIOUS) if (secret := connection.secret(field_)) is not None]
    if not found:
        raise _unusable(hook, f"connection {name!r} has no {SECRET}")
    return found


def _unusable(hook: Hook, why: str) -> Refused:
    _LOG.warning("webhook_failed %s %s", hook.told, why)
    return Refused(503, "unchecked", "Signatures cannot be checked now.", retry_after_s=AGAIN_S)
