"""All that the routes stand on, in one place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from weft.access import Access, Audit
from weft.access.oidc import Logins, Provider
from weft.access.pace import Pace
from weft.live import Hub
from weft.redaction import Secret
from weft.runtime import Runtime
from weft.server.settings import Settings
from weft.state import State


@dataclass
class House:
    """One server's parts; `app.state.house`."""

    runtime: Runtime
    state: State
    access: Access
    audit: Audit
    hub: Hub
    settings: Settings
    logins: Logins | None = None  #: through an identity provider, where there is one
    pace: Pace = field(default_factory=Pace)
    closing: asyncio.Event = field(default_factory=asyncio.Event)  #: set when the server stops: streams end then


def make_house(runtime: Runtime, settings: Settings, provider: Provider | None = None) -> House:
    """Put the parts of a server together over a runtime, which is opened when it is first asked, or by its owner.

    Args:
        runtime: Whoever made it closes it.
        settings: What the installation says.
        provider: The identity provider of a team, if it has one.

    Raises:
        StateUnavailable: The tables beside the journal have no place where they can be kept safe.
    """
    if provider is not None:
        runtime.redactor.add(Secret(provider.client_secret))
    logins = None if provider is None else Logins(provider, f"{settings.address}/login/return")
    state = runtime.state
    return House(runtime, state, Access(state), Audit(state), runtime.hub, settings, logins)


async def open_house(runtime: Runtime, settings: Settings, provider: Provider | None = None) -> House:
    """The same, with the tables beside the journal opened.

    Raises:
        StateUnavailable: They cannot be used.
    """
    await runtime.opened_state()
    return make_house(runtime, settings, provider)
