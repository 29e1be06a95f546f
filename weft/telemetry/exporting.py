"""Sends spans to where OpenTelemetry's own variables say, and tells once when nobody takes them there."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    import requests

LARGEST_ANSWER: Final = 64_000
"""Bytes of a receiver's answer that are read: it may say why it refuses some spans."""

_REFUSED: Final = "it refused them, or did not answer"

_LOG = logging.getLogger("weft.telemetry")

_TALKATIVE: Final = ("opentelemetry.exporter", "opentelemetry.sdk")
"""Loggers that would say the same for every batch."""


def exporter_of(environ: Mapping[str, str]) -> SpanExporter:
    """Return what sends spans by the protocol that the variables name; all else the library reads from them itself.

    Raises:
        ModuleNotFoundError: The package for this protocol is not installed.
    """
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if named == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  only one protocol is needed
            OTLPSpanExporter as OverGrpc,
        )

        grpc: SpanExporter = OverGrpc()
        return grpc
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    if any(name.endswith("_CREDENTIAL_PROVIDER") for name in environ):  # somebody else brings the session
        return OTLPSpanExporter()
    return OTLPSpanExporter(session=_session())


def _session() -> requests.Session:
    """Return a session that takes no more of an answer than one has to know: without it, who answers could fill the memory."""
    import requests  # noqa: PLC0415  the exporter over HTTP brings it
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    class Bounded(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *given: Any, **named: Any) -> requests.Response:
            response = super().send(request, *given, **{**named, "stream": True})
            held = response.raw.read(LARGEST_ANSWER, decode_content=True)
            response.close()
            response.raw = io.BytesIO(held)
            return response

    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())
    return session


class Careful(SpanExporter):
    """An exporter that says once that spans are not taken, and once that they are again.

    It is called in a thread of its own; a receiver that is dead costs memory for a bounded queue, and no run any time.
    """

    def __init__(self, exporter: SpanExporter, place: str) -> None:
        self._exporter = exporter
        self._place = place
        self._failing = False
        self._busy = False
        self._deadline: float | None = None
        self._lock = threading.Lock()
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._deadline is not None and time.monotonic() > self._deadline:
            return SpanExportResult.FAILURE
        self._busy = True
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  whatever a library does, no run is to be disturbed
            self._tell(type(error).__name__)
            return SpanExportResult.FAILURE
        finally:
            self._busy = False
        self._tell("" if result is SpanExportResult.SUCCESS else _REFUSED)
        return result

    def hurry(self, seconds: float) -> None:
        """Give up after so long: the process ends."""
        self._deadline = time.monotonic() + seconds
        timer = threading.Timer(seconds, self._exporter.shutdown)
        timer.daemon = True
        timer.start()

    def shutdown(self) -> None:
        if self._busy:  # whoever ends the process does not wait until this is given up
            self._tell(_REFUSED)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def _tell(self, fault: str) -> None:
        with self._lock:
            was, self._failing = self._failing, bool(fault)
        if fault and not was:
            _LOG.warning("spans_not_taken %s %s", self._place, fault)
        elif was and not fault:
            _LOG.warning("spans_taken_again %s", self._place)
