"""Give names to values, for the steps that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Problem, Where

from ._convert import Kind, convert


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    values: JsonObject
    types: dict[str, Kind] | None = None


async def set_values(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Return the values, those with a type converted to it.

    Raises:
        ActionError: A value is not of its type.
    """
    types = arguments.types or {}
    return {name: _converted(name, value, types.get(name)) for name, value in arguments.values.items()}


def _converted(name: str, value: Json, kind: Kind | None) -> Json:
    try:
        return value if kind is None else convert(value, kind)
    except ValueError as error:
        raise ActionError(
            f"The value {name!r} {error}.",
            kind="wrong_type",
            effect="none",
            remedy="Correct the value or its type.",
            where=Where(field=f"values.{name}"),
        ) from None


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield a problem for each type whose value is not there."""
    values, types = arguments.get("values"), arguments.get("types")
    if isinstance(values, dict) and isinstance(types, dict):
        for name in types.keys() - values.keys():
            yield Problem(
                "unknown_value",
                f"A type is given for {name!r}, and there is no value of this name.",
                "Correct the name.",
                Where(field=f"types.{name}"),
            )
