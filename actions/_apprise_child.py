"""Send one notification by Apprise, in a process of its own that may use the network and nothing else.

Apprise works in a thread that nobody can stop, reads answers of any size, logs addresses, and tells no more than yes or
no. Here, whoever started the process may end it at any time, and what happened is told line by line on standard output:

    {"state": "ready"}  → the service is known and its fields are right; a line on standard input lets it send
    {"connected": true} → from here on something may have been sent
    {"status": 200}     → an answer by HTTP
    {"untrusted": true} → the certificate of who was connected to does not hold
    {"refused": …}      → it wanted to go where it may not
    {"state": "sent" | "failed" | "invalid" | "missing"}
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import io
import ipaddress
import json
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from ._http_address import networks, public, refused

LARGEST_ANSWER: Final = 1_000_000  #: bytes
FORBIDDEN: Final = (
    "os.chmod os.chown os.exec os.fork os.forkpty os.kill os.link os.mkdir os.posix_spawn os.putenv os.remove os.rename "
    "os.rmdir os.spawn os.startfile os.symlink os.system os.truncate pty.spawn shutil.move shutil.rmtree "
    "socket.bind subprocess.Popen"
)
"""Audit events (docs.python.org/3/library/audit_events.html) of what no service needs."""
PAUSE_S: Final = 0.3
"""Between two recipients; the 5.5 s that Apprise leaves would let a step with several of them run out of time."""
READABLE: Final = ("/usr/share/", "/usr/lib/", "/etc/mime.types", "/etc/ssl/", "/etc/pki/", os.devnull, "/dev/urandom")
"""What may be read besides Python and its packages: time zones, types of files, certificates."""

Tell: TypeAlias = Callable[[Mapping[str, Any]], None]


class Guard:
    """Refuses, as an audit hook, what goes beyond the network that is allowed."""

    def __init__(self, private: Iterable[str], tell: Tell) -> None:
        self.plain = False  #: the request under way is not encrypted
        self._private = networks(private)
        self._tell = tell
        self._forbidden = frozenset(FORBIDDEN.split())
        roots = {*sys.path, sys.prefix, sys.base_prefix, sys.exec_prefix}
        self._roots = (*READABLE, *(f"{Path(root).resolve()}{os.sep}" for root in roots if root))

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._check_address(args[1])
            if event != "socket.connect":
                self._tell({"connected": True})
        elif event == "open" and not self._may_open(*args):
            self._refuse("file", "a file of this machine")
        elif event in self._forbidden:
            self._refuse("host", f"this machine ({event})")

    def _check_address(self, address: Any) -> None:
        host = str(address[0]) if isinstance(address, tuple) else ""
        try:
            what = refused(host, self._private)
            insecure = self.plain and public(host)
        except ValueError:
            self._refuse("host", "a socket of this machine")
        if what:
            self._refuse("address", f"{ipaddress.ip_address(host.partition('%')[0])} ({what})")
        if insecure:
            self._refuse("insecure", "a public address without TLS")

    def _may_open(self, path: Any, mode: str | None, flags: int) -> bool:
        if isinstance(path, int):
            return True
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        name = os.path.realpath(os.fsdecode(path))
        return name == os.devnull or (not writes and name.startswith(self._roots))

    def _refuse(self, kind: str, what: str) -> None:
        self._tell({"refused": kind, "what": what})
        raise PermissionError(what)


def watch(guard: Guard, tell: Tell) -> None:
    """Tell of every connection and every answer, and read no answer without limit."""
    import requests  # noqa: PLC0415  it comes with Apprise

    connect = socket.socket.connect

    def connected(self: socket.socket, address: Any) -> None:
        connect(self, address)
        tell({"connected": True})

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, stream: bool = False, *args: Any, **more: Any) -> requests.Response:
            guard.plain = str(request.url).startswith("http:")
            try:
                response = super().send(request, True, *args, **more)
            except requests.exceptions.SSLError as error:
                if _untrusted(error):
                    tell({"untrusted": True})
                raise
            body = response.raw.read(LARGEST_ANSWER + 1, decode_content=True)
            tell({"status": response.status_code})
            if len(body) > LARGEST_ANSWER:
                raise requests.exceptions.ContentDecodingError
            response._content, response._content_consumed = body, True
            return response

    socket.socket.connect = connected  # type: ignore[method-assign, assignment]
    vars(requests.sessions)["HTTPAdapter"] = Adapter


def _untrusted(error: BaseException | None) -> bool:
    """Whether a certificate was the cause, which ends a connection before anything is sent over it."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def service(job: Mapping[str, Any]) -> Any:
    """Return the service that a job names, with its own fields or those of an address."""
    from apprise import AppriseAsset  # noqa: PLC0415  the process was started for this

    plugin = getattr(importlib.import_module(f"apprise.plugins.{job['module']}"), job["class"])
    fields = plugin.parse_url(job["url"]) if job["url"] else dict(job["fields"])
    if not isinstance(fields, dict):
        raise TypeError
    if job["targets"] is not None or _must_have_targets(plugin):
        fields["targets"] = job["targets"] or fields.get("targets", [])
    fields.setdefault("overflow", "split")
    seconds = job["seconds"]
    ours = {"verify": True, "redirect": False, "retry": 0, "optional": False, "rto": seconds, "cto": seconds}
    asset = AppriseAsset(
        storage_mode="memory",
        http_redirects=False,
        allow_templates=False,
        async_mode=False,
        language="en",
        service_timeout=0,  # whoever started the process ends it
    )
    made = plugin(asset=asset, **{**fields, **ours})
    made.request_rate_per_sec = min(made.request_rate_per_sec, PAUSE_S)
    return made


def _must_have_targets(plugin: type) -> bool:
    known = inspect.signature(plugin).parameters.get("targets")
    return known is not None and known.default is inspect.Parameter.empty


def send(notified: Any, job: Mapping[str, Any]) -> bool:
    """Send the notification; nobody but the service is told what it says."""
    from apprise import Apprise  # noqa: PLC0415

    sender = Apprise(asset=notified.asset)
    if not sender.add(notified):
        return False
    return bool(sender.notify(body=job["body"], title=job["title"], body_format=job["format"], notify_type=job["type"]))


def main() -> None:
    """Do the one job that stands on standard input."""
    logging.disable(logging.CRITICAL)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = sys.stderr = io.StringIO()

    def tell(fact: Mapping[str, Any]) -> None:
        out.write(json.dumps(fact) + "\n")
        out.flush()

    job = json.loads(sys.stdin.readline())
    if importlib.util.find_spec("apprise") is None:
        tell({"state": "missing"})
        return
    guard = Guard(job["private_networks"], tell)
    watch(guard, tell)
    sys.addaudithook(guard)
    try:
        notified = service(job)
    except Exception:  # noqa: BLE001  each service raises its own, and their texts hold the fields
        tell({"state": "invalid"})
        return
    tell({"state": "ready"})
    if sys.stdin.readline():
        tell({"state": "sent" if send(notified, job) else "failed"})


if __name__ == "__main__":
    main()
