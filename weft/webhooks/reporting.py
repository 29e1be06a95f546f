"""The webhooks of a workspace, for people and programs that set up the senders."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from weft import wording
from weft.documents.base import source_of
from weft.errors import InvalidDocument, InvalidInputs, NotFound, TooLarge
from weft.plan.signing import signing_facts, signing_types
from weft.runtime import Runtime
from weft.survey import survey
from weft.types import Name
from weft.webhooks import addresses
from weft.workflow import Webhook, Workflow, seconds


class WebhookReport(BaseModel):
    """Where a webhook is reached, and whether it takes anything now."""

    model_config = ConfigDict(title="Webhook")

    workflow: str
    name: str = Field(description="Within the workflow.")
    style: Literal["standard", "github", "slack", "stripe"]
    connection: str = Field(description="Whose secret signs the requests.")
    synchronous: bool
    state: Literal["ready", "disabled", "unsigned"] = Field(
        description="`disabled`: the workflow says `enabled: false`. `unsigned`: no connection can check a signature."
    )
    url: str | None = Field(description="Where to post; only for those who may edit workflows.")


async def reports(runtime: Runtime, base: str, *, only: str | None = None) -> list[WebhookReport]:
    """Return the webhooks of all documents, or of one, by workflow; an address is made where there is none.

    Raises:
        NotFound: There is no such document.
    """
    names = [only] if only is not None else [facts.name for facts in await runtime.documents.list()]
    found: list[WebhookReport] = []
    for name in names:
        try:
            declared = await _declared(runtime, name)
        except (NotFound, TooLarge):
            if only is not None:
                raise
            continue
        if declared is None:
            continue
        for webhook in declared.on.webhook:
            address = await addresses.address_of(await runtime.opened_state(), name, webhook.name)
            found.append(_report(runtime, name, webhook, address_url(base, address), enabled=declared.enabled))
    return found


async def report_of(runtime: Runtime, base: str, workflow: str, name: str | None = None) -> WebhookReport:
    """Return one webhook of a workflow; its only one, when no name is given.

    Raises:
        NotFound: There is none.
        InvalidInputs: There are several, and none is named.
    """
    found = await reports(runtime, base, only=workflow)
    names = [each.name for each in found]
    if not found:
        raise NotFound(
            f"Workflow {workflow!r} has no webhook.", code="unknown_webhook", remedy="Declare one under `on.webhook`."
        )
    if name is None and len(found) > 1:
        raise InvalidInputs(
            f"Workflow {workflow!r} has several webhooks: {', '.join(names)}.", remedy="Name one of them."
        )
    if name is not None and name not in names:
        remedy = wording.meant(name, names) or f"There are: {', '.join(names)}."
        raise NotFound(f"Workflow {workflow!r} has no webhook {name!r}.", code="unknown_webhook", remedy=remedy)
    return next(each for each in found if name in (None, each.name))


async def rotate(
    runtime: Runtime, base: str, workflow: str, name: str | None = None, *, overlap: str | None = None
) -> WebhookReport:
    """Give a webhook another address and return how it is then; raises what `report_of` raises.

    Args:
        runtime: Open.
        base: The address of the server.
        workflow: The document's name.
        name: The webhook's; left out, its only one.
        overlap: A duration for which the old address is reached, too.
    """
    was = await report_of(runtime, base, workflow, name)
    overlap_s = 0.0 if overlap is None else seconds(overlap)
    state = await runtime.opened_state()
    address = await addresses.rotate(state, workflow, was.name, overlap_s=overlap_s)
    return was.model_copy(update={"url": address_url(base, address)})


def address_url(base: str, address: addresses.Address) -> str:
    return f"{base.rstrip('/')}/hooks/{address.path}"


async def _declared(runtime: Runtime, name: Name) -> Workflow | None:
    """Return what a document declares, as far as it can be read."""
    document = await runtime.documents.peek(name)
    try:
        found = survey(source_of(document)).workflow
    except InvalidDocument:
        return None
    return None if found is None else runtime.environment.applied(found)


def _report(runtime: Runtime, name: str, webhook: Webhook, url: str, *, enabled: bool) -> WebhookReport:
    facts = signing_facts(runtime.connections, runtime.registry, webhook.connection)
    signs = facts is not None and facts.type in signing_types(runtime.registry)
    return WebhookReport(
        workflow=name,
        name=webhook.name,
        style=webhook.style,
        connection=webhook.connection,
        synchronous=webhook.synchronous,
        state="disabled" if not enabled else "ready" if signs else "unsigned",
        url=url,
    )
