"""The chain of calls: the step's model and then its fallbacks."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from weft.sdk import Catalogue, Json, JsonObject, Known, Variant


def attempts(arguments: Mapping[str, Json], known: Known) -> list[Variant]:
    """Return the chain of calls: the step's model and then its fallbacks, each `1 + num_retries` times.

    Of the patterns in Fallbacks the best match counts: an exact name before the longest glob before `*`. Models that
    stand there without a pattern come after those. A fallback has no fallbacks of its own. The first variant replaces
    nothing of the arguments, each of the others names its own provider and model.
    """
    provider, model = arguments.get("provider"), arguments.get("model")
    if not isinstance(provider, str) or not isinstance(model, str):
        return []
    retries = arguments.get("num_retries")
    tries = 1 + (retries if isinstance(retries, int) else 0)
    own = Variant(f"{provider}/{model}", tries, provider=provider)
    chain = {own.name: own}
    for to, name in _fallbacks(arguments.get("fallbacks"), provider, model, known.catalogue):
        replaced: JsonObject = {"provider": to, "model": name}
        if to != provider:  # an address belongs to the provider that it was given for
            replaced |= {key: None for key in ("api_base", "api_version") if arguments.get(key) is not None}
        variant = Variant(f"{to}/{name}", tries, arguments=replaced, provider=to)
        chain.setdefault(variant.name, variant)
    return list(chain.values())


def is_fallback(variant: Variant) -> bool:
    """Whether a variant is another model than the author's first choice."""
    return "model" in variant.arguments


def matches(pattern: str, provider: str, model: str) -> bool:
    """Whether a pattern of Fallbacks speaks of a model."""
    return _rank(pattern, provider, model) > (0, 0)


def _fallbacks(fallbacks: Json, provider: str, model: str, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    """Yield provider and model of each fallback; one without a provider that is known is of the same."""
    best: tuple[tuple[int, int], list[Any]] = ((0, 0), [])
    plain = []
    for item in fallbacks if isinstance(fallbacks, list) else ():
        if isinstance(item, str):
            plain.append(item)
        elif isinstance(item, dict):
            for pattern, targets in item.items():
                rank = _rank(pattern, provider, model)
                if rank > best[0] and isinstance(targets, list):
                    best = (rank, targets)
    for target in (*map(str, best[1]), *plain):
        own, _, rest = target.partition("/")
        yield (own, rest) if rest and catalogue.has(own) else (provider, target)


def _rank(pattern: str, provider: str, model: str) -> tuple[int, int]:
    names = (f"{provider}/{model}", model)
    if pattern in names:
        return 3, len(pattern)
    if pattern == "*":
        return 1, 0
    return (2, len(pattern)) if any(fnmatch.fnmatchcase(name, pattern) for name in names) else (0, 0)
