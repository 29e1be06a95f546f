"""What hostile senders post, byte by byte over a real socket: it is refused, nothing is started, nothing inside is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest
from hooking import SECRETS, Hook, hook
from premises import Served, serve

from weft.redaction import Secret

BODY = b'{"n": 1}'


@pytest.fixture
async def target(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    monkeypatch.setenv("STANDARD_SIGNING_SECRET", SECRETS["standard"])
    monkeypatch.setenv("WEFT_WEBHOOK_LARGEST", "20000")
    monkeypatch.setenv("WEFT_WEBHOOK_RATE_PER_ADDRESS", "1000")
    async with serve(place, works=False) as served:
        yield Target(served, await hook(served))


class Target:
    """A webhook that is attacked."""

    def __init__(self, served: Served, orders: Hook) -> None:
        self.hook = orders
        parts = urlsplit(served.url)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 0, urlsplit(orders.path).path

    def head(self, *lines: str, method: str = "POST", path: str | None = None) -> bytes:
        text = "\r\n".join([f"{method} {path or self.path} HTTP/1.1", f"Host: {self.host}:{self.port}", *lines])
        return text.encode("latin-1") + b"\r\n\r\n"

    def signed(self, body: bytes = BODY, *, at: float | None = None, length: bool = True, **more: str) -> list[str]:
        given = self.hook.headers(body, at=at) | more
        return [f"{name}: {text}" for name, text in given.items()] + (
            [f"Content-Length: {len(body)}"] if length else []
        )

    async def send(self, *pieces: bytes, ends: bool = False) -> tuple[int, str]:
        """Send bytes as they are; return the status and the whole answer, 0 when the line was closed without one."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if ends:
                writer.write_eof()
            answer = await asyncio.wait_for(reader.read(65_536), 10)
        except ConnectionError:
            answer = b""
        finally:
            writer.close()
        text = answer.decode("latin-1")
        return (int(text.split(" ", 2)[1]) if text else 0), text


Attack: TypeAlias = Callable[[Target], Awaitable[tuple[int, str]]]


async def unsigned(target: Target) -> tuple[int, str]:
    return await target.send(target.head("Content-Type: application/json", f"Content-Length: {len(BODY)}"), BODY)


async def wrong_secret(target: Target) -> tuple[int, str]:
    target.hook.secret = Secret("whsec_" + "B" * 32)
    return await target.send(target.head(*target.signed()), BODY)


async def stale(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(at=time.time() - 302)), BODY)


async def future(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(at=time.time() + 310)), BODY)


async def other_body(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed()), b'{"n": 2}')


async def truncated(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed()), BODY[:4], ends=True)


async def wrong_length(target: Target) -> tuple[int, str]:
    lines = [line for line in target.signed() if not line.startswith("Content-Length")]
    return await target.send(target.head(*lines, "Content-Length: 8", "Content-Length: 9"), BODY)


async def length_and_chunks(target: Target) -> tuple[int, str]:
    body = b"8\r\n" + BODY + b"\r\n0\r\n\r\n"
    return await target.send(
        target.head(*target.signed(length=False), "Content-Length: 3", "Transfer-Encoding: chunked"), body
    )


async def chunked_too_large(target: Target) -> tuple[int, str]:
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    return await target.send(target.head(*target.signed(length=False), "Transfer-Encoding: chunked"), *[chunk] * 8)


async def said_too_large(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(length=False), "Content-Length: 20001"))


async def gzipped(target: Target) -> tuple[int, str]:
    bomb = gzip.compress(b" " * 10_000_000)
    return await target.send(target.head(*target.signed(bomb), "Content-Encoding: gzip"), bomb)


async def repeated_header(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(), "Webhook-Signature: v1,AAAA"), BODY)


async def two_types(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(), "Content-Type: text/plain"), BODY)


async def huge_header(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(), f"X-Filler: {'x' * 200_000}"), BODY)


async def wrong_method(target: Target) -> tuple[int, str]:
    return await target.send(target.head(*target.signed(b""), method="PUT"))


def of_body(body: bytes, **headers: str) -> Attack:
    async def attack(target: Target) -> tuple[int, str]:
        return await target.send(target.head(*target.signed(body, **headers)), body)

    return attack


ATTACKS: dict[str, tuple[Attack, set[int]]] = {
    "unsigned": (unsigned, {401}),
    "wrong secret": (wrong_secret, {401}),
    "stale": (stale, {401}),
    "future": (future, {401}),
    "other body": (other_body, {401}),
    "truncated": (truncated, {0, 400}),
    "wrong length": (wrong_length, {400}),
    "length and chunks": (length_and_chunks, {400}),
    "chunked too large": (chunked_too_large, {413}),
    "said too large": (said_too_large, {413}),
    "gzip": (gzipped, {415}),
    "repeated header": (repeated_header, {400}),
    "two types": (two_types, {400}),
    "huge header": (huge_header, {0, 400, 431}),
    "wrong method": (wrong_method, {401, 405}),
    "lone surrogate": (of_body(b'["\\ud800"]'), {400}),
    "NaN": (of_body(b"[NaN]"), {400}),
    "deep": (of_body(b"[" * 9_000), {400}),
    "two keys": (of_body(b'{"n": 1, "n": 2}'), {400}),
    "not UTF-8": (of_body(b'"\xff"'), {400}),
    "pickle": (of_body(b"\x80\x04.", **{"content-type": "application/octet-stream"}), {415}),
}


async def test_hostile_posts_start_nothing(target: Target) -> None:
    """Each is refused with its status, starts no run and tells nothing; after all of them an honest post is taken."""
    honest, found = target.hook.secret, {}
    for name, (attack, _) in ATTACKS.items():
        status, answer = await attack(target)
        found[name] = status
        target.hook.secret = honest
        assert await target.hook.runs() == [], name
        for inside in ("Traceback", "weft/", ".py", "sqlite", SECRETS["standard"], target.path):
            assert inside not in answer, name

    assert {name: status for name, status in found.items() if status not in ATTACKS[name][1]} == {}
    status, _ = await target.send(target.head(*target.signed()), BODY)
    assert status == 202


async def test_no_path_is_guessed_by_time(target: Target) -> None:
    """A path that begins as a real one does is looked up as fast as any other, and answered with the same words."""
    real, answers, took = target.path, set(), {True: [], False: []}
    for n in range(120):
        near = n % 2 == 0
        path = real[:-4] + secrets.token_hex(2) if near else f"/hooks/{secrets.token_urlsafe(32)}"
        began = time.perf_counter()
        status, answer = await target.send(target.head(*target.signed(), path=path), BODY)
        took[near].append(time.perf_counter() - began)
        answers.add((status, json.loads(answer.partition("\r\n\r\n")[2])["code"]))

    assert answers == {(404, "unknown_webhook")}
    near_s, far_s = (statistics.median(took[kind]) for kind in (True, False))
    assert near_s < 2 * far_s
    assert far_s < 2 * near_s


async def test_who_posts_too_often_waits(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the rate the answer is 429 with when to come again, before a signature is looked at or a table is asked."""
    asked: list[str] = []

    async def find(state: object, path: str) -> None:
        asked.append(path)

    monkeypatch.setattr("weft.webhooks.addresses.find", find)
    gatekeeper = target.hook.served.app.state.gatekeeper
    monkeypatch.setattr(gatekeeper._of_address, "_full", 3.0)
    monkeypatch.setattr(gatekeeper._of_address, "_rate", 0.1)
    gatekeeper._of_address._buckets.clear()
    found = [await target.send(target.head(*target.signed()), BODY) for _ in range(5)]

    assert [status for status, _ in found] == [404, 404, 404, 429, 429]
    assert "retry-after: " in found[-1][1].lower()
    assert len(asked) == 3
