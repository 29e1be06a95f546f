"""How an attempt ended: the form in which the journal keeps it and the run goes on with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from weft.errors import Effect, Problem, problem_from
from weft.types import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, as it is recorded."""

    problem: Problem
    retryable: bool = False
    retry_after_s: float | None = None
    effect: Effect = "unknown"
    status: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.problem.code

    def to_json(self) -> JsonObject:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        return cls(**{**data, "problem": problem_from(data["problem"])})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended; its text form is what the journal keeps and what the run goes on with."""

    state: Literal["succeeded", "failed", "cancelled"]
    variant: str
    started_at: float  #: seconds since 1970, UTC
    ended_at: float
    output: Json = None
    failure: Failure | None = None
    request: str = ""  #: hash of what was asked for
    repeated: bool = False  #: an attempt before it may have had its effect

    @property
    def ms(self) -> int:
        return max(0, round((self.ended_at - self.started_at) * 1000))

    def to_text(self) -> str:
        return encode(
            {
                "request": self.request,
                "variant": self.variant,
                "started_at": self.started_at,
                "ended_at": self.ended_at,
                "output": self.output,
                "failure": None if self.failure is None else self.failure.to_json(),
                "repeated": self.repeated,
            }
        )

    @classmethod
    def from_text(cls, state: Literal["succeeded", "failed", "cancelled"], text: str) -> Outcome:
        data = json.loads(text)
        failure = None if data["failure"] is None else Failure.from_json(data["failure"])
        return cls(
            state,
            data["variant"],
            data["started_at"],
            data["ended_at"],
            data["output"],
            failure,
            data["request"],
            data["repeated"],
        )


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # `dumps` would make one for each call


def encode(value: Any) -> str:
    """Return `value` as JSON text that every database keeps: ASCII, finite numbers only.

    Raises:
        ValueError: It holds a number that JSON has not.
        TypeError: It holds something that is no JSON value.
    """
    return _ENCODER.encode(value)


def decode(text: str) -> dict[str, Any]:
    """Return the JSON object that a text holds."""
    found: dict[str, Any] = json.loads(text)
    return found


def request_hash(*parts: Any) -> str:
    """Return what tells one request from another: 128 bits of SHA-256 over its JSON, hexadecimal."""
    return hashlib.sha256(encode(parts).encode()).hexdigest()[:32]
