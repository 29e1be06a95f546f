"""What a model takes of a request, and why not the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from weft.types import Json
from weft.wording import shown

Verdict = Literal["taken", "refused", "ignored"]
"""LiteLLM sends it; LiteLLM raises `UnsupportedParamsError`; LiteLLM, or the server, says nothing and does without."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "n": ("1", "more"),
    "frequency_penalty": ("any",),
    "logprobs": ("true", "false"),
    "top_logprobs": ("any",),
    "logit_bias": ("any",),
    "max_completion_tokens": ("any",),
    "max_tokens": ("any",),
    "parallel_tool_calls": ("true", "false"),
    "presence_penalty": ("any",),
    "response_format": ("text", "json_object", "json_schema"),
    "safety_identifier": ("any",),
    "seed": ("any",),
    "stop": ("any",),
    "temperature": ("1", "other"),
    "tool_choice": ("none", "auto", "required", "named"),
    "tools": ("one", "several"),
    "top_p": ("any",),
    "user": ("name", "address"),
}
"""Parameter → the kinds of its values among which LiteLLM's mapping tells apart. All 18 members of the body."""

_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "tool_choice": {"named": "a named tool"},
    "temperature": {"other": "other numbers than 1"},
    "n": {"more": "more than 1"},
    "tools": {"one": "a single tool", "several": "several tools"},
    "user": {"name": "a plain name", "address": "an e-mail address or a telephone number"},
}


def kind(parameter: str, value: Json) -> str:
    """Return the kind of a parameter's value; one that is none of `KINDS` is called "unknown"."""
    found: str
    match parameter, value:
        case (("n" | "temperature"), int() | float()):
            found = "1" if value == 1 else KINDS[parameter][1]
        case (("logprobs" | "parallel_tool_calls"), bool()):
            found = "true" if value else "false"
        case "response_format", {"type": str(form)}:
            found = form
        case "tool_choice", dict():
            found = "named"
        case "tool_choice", str(choice):
            found = choice
        case "tools", list():
            found = "several" if len(value) > 1 else "one"
        case "user", str(name):
            found = "address" if _ADDRESS.fullmatch(name) else "name"
        case _:
            found = "any"
    return found if found in KINDS.get(parameter, ()) else "unknown"


_ADDRESS: Final = re.compile(r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}|\+?[\d\s()-]{7,}")
"""What Anthropic's rules forbid in an id of a user, as LiteLLM tells it."""


@dataclass(frozen=True, slots=True)
class Together:
    """A verdict that holds for a value only together with a value of another parameter."""

    parameter: str
    kinds: frozenset[str]
    other: str
    other_kinds: frozenset[str]
    verdict: Verdict

    def holds(self, parameter: str, value_kind: str, given: Mapping[str, str]) -> bool:
        return parameter == self.parameter and value_kind in self.kinds and given.get(self.other) in self.other_kinds


@dataclass(frozen=True, slots=True)
class Fit:
    """What becomes of the values of each parameter; many models share one."""

    verdicts: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)  #: what is missing is taken
    together: tuple[Together, ...] = ()
    forced: frozenset[str] = frozenset()  #: sent only when LiteLLM is told to, with `allowed_openai_params`

    def verdict(self, parameter: str, value_kind: str, given: Mapping[str, str] | None = None) -> Verdict:
        """Return what becomes of a value of this kind, beside others of the kinds `given`."""
        for rule in self.holding(parameter, value_kind, given or {}):
            return rule.verdict
        found = self.verdicts.get(parameter, {})
        if value_kind in KINDS[parameter]:
            return found.get(value_kind, "taken")
        alike = set(found.values())  # a value that is none of the kinds is judged as all of them are, if they agree
        return alike.pop() if len(alike) == 1 and len(found) == len(KINDS[parameter]) else "taken"

    def holding(self, parameter: str, value_kind: str, given: Mapping[str, str]) -> list[Together]:
        """Return the rules that hold for a value of this kind because of others of the kinds `given`."""
        return [rule for rule in self.together if rule.holds(parameter, value_kind, given)]

    def takes(self, parameter: str) -> bool:
        """Return whether there is a value of this parameter that has an effect."""
        return any(self.verdict(parameter, each) == "taken" for each in _telling(parameter))

    def taken(self) -> frozenset[str]:
        """Return the parameters of which there are values that have an effect."""
        return frozenset(parameter for parameter in KINDS if self.takes(parameter))


def _telling(parameter: str) -> tuple[str, ...]:
    """Return the kinds of values that say anything: one completion is what everybody gives."""
    return ("more",) if parameter == "n" else KINDS[parameter]


@dataclass(frozen=True, slots=True)
class Unfit:
    """A given parameter that a model does not take as it is given."""

    parameter: str
    reason: Literal["unsupported", "value", "ignored"]  #: not taken at all; not with this value; taken and then lost
    message: str  #: one sentence that names parameter, provider and model
    remedy: str


@dataclass(frozen=True, slots=True)
class Taking:
    """What a model makes of one parameter, for people who ask why."""

    parameter: str
    verdict: Literal["taken", "some", "refused", "ignored"]  #: some: only some of its values, or not beside others
    taken: tuple[str, ...]  #: kinds of values that are taken, in words; empty when all or none are
    message: str  #: one sentence


def unfit(fit: Fit, provider: str, model: str, given: Mapping[str, Json]) -> tuple[Unfit, ...]:
    """Return the given parameters that are refused or lost, in the order given; what is None counts as not given.

    Where one is taken only beside another that is itself unfit, both are told.
    """
    left = {name: kind(name, value) for name, value in given.items() if value is not None and name in KINDS}
    found: dict[str, Unfit] = {}
    while verdicts := {name: verdict for name in left if (verdict := fit.verdict(name, left[name], left)) != "taken"}:
        for name, verdict in verdicts.items():
            said = _Said(fit, f"{provider}'s {model!r}", name, left[name], given[name])
            found[name] = said.unfit(left, verdict)
        left = {name: value_kind for name, value_kind in left.items() if name not in verdicts}
    return tuple(found[name] for name in given if name in found)


@dataclass(frozen=True, slots=True)
class _Said:
    """A value that does not fit, while it is being told."""

    fit: Fit
    whose: str
    name: str
    kind: str
    value: Json

    def unfit(self, given: Mapping[str, str], verdict: Verdict) -> Unfit:
        name, whose = self.name, self.whose
        taken = _words(name, [each for each in KINDS[name] if self.fit.verdict(name, each, given) == "taken"])
        other = f"leave {name!r} out, or choose another model."
        if not self.fit.takes(name):
            lost = verdict == "ignored"
            message = (
                f"{whose} takes {name!r}, and it is lost without a word." if lost else f"{whose} takes no {name!r}."
            )
            return Unfit(name, "ignored" if lost else "unsupported", message, f"L{other[1:]}")
        if self.fit.verdict(name, self.kind) == "taken":
            beside = " or ".join(repr(rule.other) for rule in self.fit.holding(name, self.kind, given))
            message = f"{whose} takes no {name!r} together with {beside}."
            if verdict == "ignored":
                message = f"{name!r} is lost without a word on {whose} together with {beside}."
            return Unfit(name, _REASONS[verdict], message, "Leave one of them out, or choose another model.")
        message = f"{whose} takes {name!r} only as {taken}, not {self._shown()}."
        if verdict == "ignored":
            message = f"{name!r} is lost without a word on {whose} when it is {self._shown()}."
        return Unfit(name, _REASONS[verdict], message, f"Give {taken}, {other}" if taken else f"L{other[1:]}")

    def _shown(self) -> str:
        return shown(self.value) if isinstance(self.value, int | float) else _word(self.name, self.kind)


_REASONS: Final[Mapping[Verdict, Literal["value", "ignored"]]] = {"refused": "value", "ignored": "ignored"}


def _word(name: str, value_kind: str) -> str:
    return _WORDS.get(name, {}).get(value_kind, value_kind)


def _words(name: str, kinds: list[str]) -> str:
    words = [_word(name, each) for each in kinds]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def takings(fit: Fit) -> tuple[Taking, ...]:
    """Return what a model makes of each of the 18 parameters, in their order."""
    return tuple(_taking(fit, name) for name in KINDS)


def _taking(fit: Fit, name: str) -> Taking:
    kinds = [each for each in KINDS[name] if fit.verdict(name, each) == "taken"]
    apart = [rule for rule in fit.together if rule.parameter == name and rule.verdict != "taken"]
    words = tuple(_word(name, each) for each in kinds)
    beside = f", but not together with {' or '.join(sorted({rule.other for rule in apart}))}" if apart else ""
    if not fit.takes(name):
        lost = any(fit.verdict(name, each) == "ignored" for each in _telling(name))
        message = "taken, and then lost without a word" if lost else "not taken"
        return Taking(name, "ignored" if lost else "refused", (), f"{message}.")
    if len(kinds) < len(KINDS[name]):
        return Taking(name, "some", words, f"taken only as {_words(name, kinds)}{beside}.")
    return Taking(name, "some" if apart else "taken", (), f"taken{beside}.")
