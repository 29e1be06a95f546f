"""What of the telemetry is on, by the environment; nothing of it is imported that is off."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from weft.engine.events import Observer
from weft.errors import InvalidInputs, Problem
from weft.journal.base import Journal, Kept
from weft.plan import Plan
from weft.redaction import Redactor, Secret
from weft.telemetry import telling

if TYPE_CHECKING:  # costs what only those pay who want it
    from wsgiref.simple_server import WSGIServer

    from weft.telemetry.metrics import Metrics
    from weft.telemetry.tracing import Tracing

FLUSH_S: Final = 1.5
"""How long the end of a process may wait for what was not sent yet."""

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HEADERS: Final = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
LOG: Final = "WEFT_LOG"
"""Set to `json`, the log is lines of JSON on standard error."""

METRICS: Final = "WEFT_METRICS"
"""Where a process that serves nothing else, such as a worker, answers Prometheus: `127.0.0.1:9464`."""

_LOG = logging.getLogger("weft.telemetry")

Watcher = Callable[[Kept, Plan], "Observer | None"]


class Watched(Protocol):
    """What has runs in hand."""

    watchers: list[Watcher]


class Telemetry:
    """What this process tells of its runs.

    Args:
        driver: Has the runs in hand.
        journal: Knows of all of them.
        redactor: Knows the secrets that nobody is told.
        environ: Says what is wanted.
    """

    def __init__(self, driver: Watched, journal: Journal, redactor: Redactor, environ: Mapping[str, str]) -> None:
        self._driver = driver
        self._journal = journal
        self._redactor = redactor
        self._environ = environ
        self._tracing: Tracing | None = None
        self._metrics: Metrics | None = None
        self._exposed: WSGIServer | None = None
        self.problem: Problem | None = None  #: why traces that are wanted cannot be sent
        if wants_json(environ):
            driver.watchers.append(telling.watch)
        if place_of_traces(environ) is not None:
            for name in HEADERS:
                for pair in environ.get(name, "").split(","):  # they hold credentials
                    redactor.add(Secret(pair.partition("=")[2].strip()))
            driver.watchers.append(self._trace)

    @property
    def metrics(self) -> Metrics:
        """What Prometheus may ask for; runs are counted from the first time on that somebody calls this."""
        if self._metrics is None:
            from weft.telemetry.metrics import Metrics  # noqa: PLC0415  most commands need none

            self._metrics = Metrics(self._journal)
            self._driver.watchers.append(self._metrics.watch)
        return self._metrics

    def expose(self) -> None:
        """Answer Prometheus where `WEFT_METRICS` says, if it does: for a process that serves nothing else.

        Raises:
            InvalidInputs: It is no address, or cannot be listened on.
        """
        place = self._environ.get(METRICS, "").strip()
        if not place:
            return
        from prometheus_client import start_http_server  # noqa: PLC0415  only where it is wanted

        host, _, port = place.rpartition(":")
        try:
            server, _ = start_http_server(
                int(port), addr=host.strip("[]") or "127.0.0.1", registry=self.metrics.registry
            )
        except (ValueError, OverflowError, OSError) as error:
            raise InvalidInputs(
                f"{METRICS} is {place!r}, which cannot be listened on ({type(error).__name__}).",
                code="bad_address",
                remedy=f"Write {METRICS}=127.0.0.1:9464, with a port that is free.",
            ) from None
        self._exposed = server

    async def close(self) -> None:
        """Send what was not sent yet, within a limit."""
        if self._exposed is not None:
            await asyncio.to_thread(self._exposed.shutdown)
            self._exposed.server_close()
        if self._tracing is None:
            return
        sending = threading.Thread(target=self._tracing.close, args=(FLUSH_S,), daemon=True, name="weft-telemetry")
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_S + 1.0)

    def _trace(self, kept: Kept, plan: Plan) -> Observer | None:
        if self.problem is not None:
            return None
        if self._tracing is None:
            self._tracing = self._traced()
        return None if self._tracing is None else self._tracing.watch(kept, plan)

    def _traced(self) -> Tracing | None:
        """Begin to trace, with the first run; None, told once, when a package is missing."""
        try:
            from weft.telemetry.exporting import Careful, exporter_of  # noqa: PLC0415  of the extra `otel`
            from weft.telemetry.tracing import Tracing  # noqa: PLC0415

            place = place_of_traces(self._environ) or ""
            return Tracing(Careful(exporter_of(self._environ), place), self._redactor, self._environ)
        except ModuleNotFoundError as missing:
            self.problem = without(missing.name or "opentelemetry")
            _LOG.warning("spans_not_possible %s", missing.name)
            return None


def start(driver: Watched, journal: Journal, redactor: Redactor, environ: Mapping[str, str]) -> Telemetry:
    """Switch on what the environment asks for."""
    return Telemetry(driver, journal, redactor, environ)


def wants_json(environ: Mapping[str, str]) -> bool:
    """Tell whether the log is to be lines of JSON."""
    return environ.get(LOG, "").strip().lower() == "json"


def place_of_traces(environ: Mapping[str, str]) -> str | None:
    """Return where traces are to be sent; None when they are not wanted."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return None
    return next((place for name in ENDPOINTS if (place := environ.get(name, "").strip())), None)


def without(package: str) -> Problem:
    """Return what to tell where traces are wanted, and a package for them is missing."""
    more = " opentelemetry-exporter-otlp-proto-grpc" if "grpc" in package else ""
    return Problem(
        "telemetry_missing",
        f"OTEL_EXPORTER_OTLP_… asks for traces, but {package} is not installed: none are sent.",
        f"Install it: pip install 'weft[otel]'{more}",
        severity="warning",
    )
