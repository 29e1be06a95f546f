"""Sending by Apprise in a process of its own, and what is known when it has ended.

Apprise tells yes or no. From what its process did besides, connections and answers, it is known more: without a
connection nothing was sent, and a service that answered every request with a refusal has taken nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from weft.sdk import ActionContext, ActionError, Connection, JsonObject, Secret

from ._http import rules
from ._notify_http import incomplete

HERE: Final = Path(__file__).parent
MARGIN_S: Final = 0.25
LONGEST_LINE: Final = 1_000_000  #: bytes
KEPT: Final = ("LANG", "LC_ALL", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "SYSTEMROOT", "TZ")
"""Variables that the process is given; no proxy, no credentials."""
START: Final = (
    "import runpy, sys, types; pack = types.ModuleType('pack'); pack.__path__ = [sys.argv[1]]; "
    "sys.modules['pack'] = pack; runpy.run_module('pack._apprise_child', run_name='__main__')"
)
OWN: Final = frozenset(
    {"service", "url", "targets", "allowed_targets", "tls", "private_networks", "ca_file", "request_timeout_s"}
)
"""Fields of a connection that are no service's."""
REFUSALS: Final = {
    "address": ("address_refused", "If this is meant, add the network to the connection's `private_networks`."),
    "insecure": ("insecure", "Use the service's form with TLS."),
    "file": ("host_refused", "Leave out what names a file."),
    "host": ("host_refused", "Choose a service that goes through the network alone."),
}


@dataclass(frozen=True, slots=True)
class Service:
    """One service that may be used."""

    name: str
    title: str
    module: str
    plugin: str
    schemas: tuple[str, ...]  #: the one over TLS first
    plain: str | None  #: the one without TLS, where there are both
    fields: Mapping[str, str]  #: of the connection → of the plugin


@dataclass(slots=True)
class Told:
    """What the process has told so far."""

    connected: bool = False
    statuses: list[int] = field(default_factory=list)
    refused: tuple[str, str] | None = None  #: kind, and what it wanted
    untrusted: bool = False  #: a certificate did not hold
    state: str | None = None


@cache
def services() -> Mapping[str, Service]:
    """Return the services that may be used, by name."""
    found = json.loads((HERE / "_apprise_services.json").read_text(encoding="utf-8"))
    return {
        name: Service(name, it["title"], it["module"], it["class"], tuple(it["schemas"]), it["plain"], it["fields"])
        for name, it in found.items()
    }


def service_of(connection: Connection) -> Service:
    """Return the service of a connection.

    Raises:
        ActionError: It has none, or one that is not used from here, or fields that the service does not have.
    """
    url, name = connection.secret("url"), connection.get("service")
    if url is None and name not in services():
        raise incomplete(connection, "has neither a `service` nor a `url`")
    found = services()[name] if url is None else _by_schema(connection, url)
    known = OWN | found.fields.keys() if url is None else OWN
    if others := sorted(connection.values.keys() - known):
        raise incomplete(
            connection, f"has `{others[0]}`, which is no field of {found.title if url is None else 'a `url`'}"
        )
    return found


def _by_schema(connection: Connection, url: Secret) -> Service:
    schema = url.reveal().partition("://")[0].strip().lower()
    for service in services().values():
        if schema in service.schemas:
            return service
    raise incomplete(
        connection, "has a `url` of no service that goes through the network alone; they are known by its beginning"
    )


def job(
    connection: Connection, service: Service, message: Mapping[str, Any], targets: Sequence[str] | None
) -> JsonObject:
    """Return what the process has to know, secrets among it: it is told through a pipe, never by arguments."""
    url = connection.secret("url")
    fields = {
        inner: _plain(connection.values[outer]) for outer, inner in service.fields.items() if outer in connection.values
    }
    schema = service.plain if service.plain and not connection.get("tls", True) else service.schemas[0]
    return {
        "module": service.module,
        "class": service.plugin,
        "url": None if url is None else url.reveal(),
        "fields": {"schema": schema, **fields},
        "targets": None if targets is None else [*targets],
        "private_networks": [str(network) for network in rules(connection).private_networks],
        **message,
    }


def _plain(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


async def notify(work: JsonObject, connection: Connection, context: ActionContext, *, send: bool = True) -> Told:
    """Let a process do the work, and return what it told; with `send` off it only looks whether it could.

    Raises:
        ActionError: It was not sent; `effect` is `none` when that is certain.
    """
    told = Told()
    seconds = max(0.0, min(float(connection.get("request_timeout_s", 60)), context.remaining_s() - MARGIN_S))
    try:
        async with asyncio.timeout(seconds), _process(connection) as process:
            await _say(process, {**work, "seconds": seconds})
            await _listen(process, told, until="ready")
            if told.state == "ready" and send:
                await context.point_of_no_return()
                await _say(process, None)
                await _listen(process, told, until="sent")
    except TimeoutError:
        raise _failure(
            told, "timeout", f"The service has not taken the notification within {seconds:.3g} s.", retryable=True
        ) from None
    if told.state != ("sent" if send else "ready") or (send and not told.connected):
        raise _explained(told)
    return told


@contextlib.asynccontextmanager
async def _process(connection: Connection) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for one notification; it is gone when the block ends, however it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", START, str(HERE),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=_environment(connection), limit=LONGEST_LINE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


def _environment(connection: Connection) -> dict[str, str]:
    """The variables of the process: where Python's packages are, and whom to trust."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    ca_file = connection.get("ca_file")
    trust = {"REQUESTS_CA_BUNDLE": str(Path(ca_file).resolve())} if ca_file else {}
    return {**kept, **trust, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NETRC": os.devnull}


async def _say(process: asyncio.subprocess.Process, fact: JsonObject | None) -> None:
    if process.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it has ended; what it told says why
            process.stdin.write(json.dumps(fact).encode() + b"\n")
            await process.stdin.drain()


async def _listen(process: asyncio.subprocess.Process, told: Told, *, until: str) -> None:
    """Take in what is told up to a state, or to the end."""
    told.state = None
    while process.stdout is not None and told.state is None and (line := await process.stdout.readline()):
        fact = json.loads(line)
        told.connected = told.connected or "connected" in fact
        told.untrusted = told.untrusted or "untrusted" in fact
        if "status" in fact:
            told.statuses.append(int(fact["status"]))
        if "refused" in fact and told.refused is None:
            told.refused = (str(fact["refused"]), str(fact["what"]))
        told.state = fact.get("state")


def _explained(told: Told) -> ActionError:
    """The error for a notification that was not sent, or not certainly."""
    if told.refused is not None:
        kind, remedy = REFUSALS[told.refused[0]]
        return _failure(told, kind, f"The service would use {told.refused[1]}, which is refused.", remedy)
    if told.state == "invalid":
        return _failure(
            told,
            "invalid_connection",
            "The service cannot be used with these fields: one is missing, or is not what the service issues.",
            "Compare the connection with the service's page at appriseit.com.",
        )
    if told.state == "missing":
        return _failure(told, "not_installed", "Apprise is not installed here.", "Install the package apprise.")
    if told.state is None:
        return _failure(told, "crashed", "The process that sends notifications ended before its time.")
    if not told.connected:
        return _failure(told, "unreachable", "The service was not reached.", "Check its address.", retryable=True)
    if told.untrusted and not told.statuses:
        remedy = "A server with an authority of its own needs the connection's `ca_file`."
        return _failure(told, "certificate", "The service's certificate is not trusted.", remedy, effect="none")
    if told.statuses and min(told.statuses) >= 300:
        return _by_status(told, told.statuses[-1])
    return _failure(told, "not_sent", "The service did not take the notification, or not for everybody.")


def _by_status(told: Told, status: int) -> ActionError:
    shown = f"The service answered with status {status}."
    if status >= 500:
        return _failure(told, "server_error", shown, status=status)
    if status == 429:
        return _failure(told, "rate_limited", shown, "Retry later.", status=status, effect="none", retryable=True)
    if status in (401, 403):
        remedy = "Renew the credentials of the connection."
        return _failure(told, "authentication", shown, remedy, status=status, effect="none")
    return _failure(told, "refused", shown, "Check the connection.", status=status, effect="none")


def _failure(
    told: Told,
    kind: str,
    message: str,
    remedy: str | None = None,
    *,
    retryable: bool = False,
    status: int | None = None,
    effect: Literal["none"] | None = None,
) -> ActionError:
    """The error; a connection leaves a doubt, unless the answers take it away."""
    left: Literal["none", "unknown"] = effect or ("unknown" if told.connected else "none")
    doubt = " It may have been sent." if left == "unknown" else ""
    may = retryable and left == "none"
    return ActionError(message + doubt, kind=kind, remedy=remedy, retryable=may, status=status, effect=left)
