"""Who has a mail, who never will and who is still to get it, over all attempts of a step.

A server may take a mail for some recipients and ask to try others later (RFC 5321 §4.2.1). What an attempt has learnt
goes with its error into the record; the next one names only those that are left, so that nobody gets a second copy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from weft.sdk import ActionError, Attempt, Json, JsonObject

from ._mail_smtp import Refused

LONGEST_WORDS: Final = 40_000  #: characters of all servers' reasons in one record; more of them are left out

State = Literal["open", "accepted", "deferred", "refused"]
_STATES: Final = {"accepted": "accepted", "deferred": "deferred", "refused": "refused"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient, and what the servers said last."""

    address: str
    state: State = "open"
    code: int = 0
    message: str = ""

    @property
    def is_open(self) -> bool:
        return self.state in ("open", "deferred")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The recipients of a mail, in its order."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, addresses: Iterable[str], previous: Sequence[Attempt]) -> Ledger:
        """Return the state after the earlier attempts of the step."""
        entries = [Entry(address) for address in addresses]
        for attempt in reversed(previous):
            told = attempt.details.get("recipients")
            if isinstance(told, list) and len(told) == len(entries):  # by their order: a record may mask an address
                entries = [_known(entry, facts) for entry, facts in zip(entries, told, strict=True)]
                break
        return cls(tuple(entries))

    @property
    def left(self) -> tuple[str, ...]:
        """Who is still to get the mail."""
        return tuple(entry.address for entry in self.entries if entry.is_open)

    @property
    def accepted(self) -> list[str]:
        return [entry.address for entry in self.entries if entry.state == "accepted"]

    @property
    def missing(self) -> list[Entry]:
        """Whom a server did not take, for now or for good."""
        return [entry for entry in self.entries if entry.state in ("deferred", "refused")]

    @property
    def deferred(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state == "deferred"]

    def after(self, refused: Iterable[Refused], *, taken: bool) -> Ledger:
        """Return the state after an attempt that named those who were left.

        Args:
            refused: Whom the server refused.
            taken: Whether it took the mail for the others.
        """
        said = {item.address: item for item in refused}
        return Ledger(tuple(_after(entry, said.get(entry.address), taken=taken) for entry in self.entries))

    def record(self) -> list[Json]:
        """Return the state as an error's details hold it."""
        facts = [_facts(entry) for entry in self.entries]
        if len(json.dumps(facts)) > LONGEST_WORDS + 400 * len(facts):
            facts = [_facts(replace(entry, message="")) for entry in self.entries]
        return [*facts]

    def noted(self, error: ActionError, *, repeated: bool) -> ActionError:
        """Return the error with the state in it, and with what an earlier attempt may have done.

        This attempt may have done nothing; what the step has done is as doubtful as the earlier one left it.
        """
        if not repeated and not any(entry.state != "open" for entry in self.entries):
            return error
        message = error.problem.message
        if repeated and error.effect == "none":
            message += " An earlier attempt may have been delivered."
        return ActionError(
            message,
            kind=error.kind,
            remedy=error.problem.remedy,
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
            effect="unknown" if repeated else error.effect,
            status=error.status,
            where=error.problem.where,
            details={**error.details, "recipients": self.record()},
        )


def _known(entry: Entry, facts: Json) -> Entry:
    if not isinstance(facts, Mapping):
        return entry
    state, code, message = (facts.get(name) for name in ("state", "code", "message"))
    if state not in _STATES:
        return entry
    return Entry(entry.address, state, code if isinstance(code, int) else 0, str(message or ""))  # type: ignore[arg-type]


def _after(entry: Entry, refused: Refused | None, *, taken: bool) -> Entry:
    if not entry.is_open:
        return entry
    if refused is not None:
        state: State = "refused" if refused.for_good else "deferred"
        return Entry(entry.address, state, refused.code, refused.message)
    return Entry(entry.address, "accepted") if taken else entry


def _facts(entry: Entry) -> JsonObject:
    facts: JsonObject = {"address": entry.address, "state": entry.state}
    return facts | ({"code": entry.code, "message": entry.message} if entry.code else {})
