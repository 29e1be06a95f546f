"""Read the catalogue that is shipped, and a file of one's own above it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from weft.catalogue.fit import Fit, Together
from weft.catalogue.model import Catalogue, Model, Provider
from weft.catalogue.own import above
from weft.catalogue.prices import OffPeak, Prices, Tier
from weft.manifest import Parameter

FILE: Final = Path(__file__).with_name("models.json")


def load(own: Path | None = None) -> Catalogue:
    """Return the shipped catalogue, which is read at its first use, or one with models and prices of `own` above it.

    Raises:
        InvalidSource: The own file cannot be read, or is not the YAML that Weft reads.
        InvalidCatalogue: It breaks rules; carries every problem with its place.
    """
    return _shipped() if own is None else Catalogue(partial(dict, above(_shipped(), own)))


def catalogue_of(home: Path) -> Catalogue:
    """Return the catalogue as it is in `home`: with what the operator says in `models.yaml` there above it."""
    own = home / "models.yaml"
    return load(own if own.is_file() else None)


@cache
def _shipped() -> Catalogue:
    return Catalogue(lambda: _Shelves(json.loads(FILE.read_bytes())).providers())


class _Shelves:
    """The shipped file, and what was made of it so far."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self._fit = cache(self._made_fit)
        self._set = cache(lambda index: frozenset(content["capabilities"][index].split()))

    def providers(self) -> Mapping[str, Callable[[], Provider]]:
        return {id_: partial(self._provider, id_) for id_ in self._content["providers"]}

    def _made_fit(self, index: int) -> tuple[Fit, frozenset[str]]:
        told = self._content["fits"][index]
        fit = Fit(
            {
                name: {
                    each: verdict for verdict in ("refused", "ignored", "taken") for each in told_of.get(verdict, ())
                }
                for name, told_of in told.get("verdicts", {}).items()
            },
            tuple(
                Together(name, frozenset(kinds), other, frozenset(other_kinds), verdict)
                for name, kinds, other, other_kinds, verdict in told.get("together", ())
            ),
            frozenset(told.get("forced", ())),
        )
        return fit, fit.taken()

    def _provider(self, id_: str) -> Provider:
        told = self._content["providers"][id_]
        fit, parameters = self._fit(told["fit"])
        return Provider(
            id_,
            told["title"],
            credentials=tuple(self._field(name, needed) for name, needed in told.get("fields", {}).items()),
            self_hosted=told.get("self_hosted", False),
            parameters=parameters,
            models=_Models(self._content["models"].get(id_, {}), partial(self._model, id_)),
            required=frozenset(told.get("required", ())),
            api_base=told.get("api_base"),
            hosts=tuple(told.get("hosts", ())),
            documentation=told.get("documentation"),
            family=told.get("family", id_),
            fit=fit,
        )

    def _field(self, name: str, needed: bool) -> Parameter:
        return Parameter.model_validate({"name": name, "required": needed, **self._content["fields"][name]})

    def _model(self, provider: str, name: str) -> Model:
        told = self._content["models"][provider][name]
        fit, parameters = self._fit(told["fit"])
        until = told.get("until")
        return Model(
            provider,
            name,
            told.get("in"),
            told.get("out"),
            self._set(told["can"]),
            parameters,
            _prices(told["usd"]) if "usd" in told else None,
            date.fromisoformat(until) if until else None,
            fit,
        )


def _prices(told: Mapping[str, Any]) -> Prices:
    tiers = tuple(Tier(**tier) for tier in told.get("tiers", ()))
    return Prices("USD", **{**told, "tiers": tiers, "off_peak": _off_peak(dict(told.get("off_peak", {})))})


def _off_peak(told: dict[str, Any]) -> OffPeak | None:
    hours, zone = told.pop("hours", ()), told.pop("zone", "UTC")
    spans = tuple((frozenset(days), time.fromisoformat(begin), time.fromisoformat(end)) for days, begin, end in hours)
    return OffPeak(told, spans, zone) if spans else None


class _Models(Mapping[str, Model]):
    """The models of a provider, each made when it is asked for."""

    def __init__(self, names: Mapping[str, Any], make: Callable[[str], Model]) -> None:
        self._names = names
        self._made = cache(make)

    def __getitem__(self, name: str) -> Model:
        if name not in self._names:
            raise KeyError(name)
        return self._made(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
