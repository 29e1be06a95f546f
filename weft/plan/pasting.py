"""A step to paste into a workflow, written from an action's manifest."""

from __future__ import annotations

from typing import Final

import yaml

from weft.manifest import Manifest, Parameter
from weft.types import Json

WIDTH: Final = 88
"""Characters of a line of YAML."""


def example(manifest: Manifest, width: int = WIDTH) -> str:
    """Return a list of one step as YAML: what is required, with the examples of the manifest."""
    return as_yaml([step(manifest)], width)


def step(manifest: Manifest) -> dict[str, Json]:
    """Return a step with what is required, and what that requires, with the examples of the manifest."""
    known = {parameter.name: parameter for parameter in manifest.all_parameters}
    names = [name for name, parameter in known.items() if parameter.required]
    for name in names:  # grows while it is walked
        names += [other.parameter for other in known[name].requires if other.parameter not in names]
    found: dict[str, Json] = {"id": manifest.id, "uses": manifest.id}
    if manifest.connection:
        found["connection"] = f"my-{manifest.connection.replace('_', '-')}"
    found["with"] = {name: _example_value(known[name]) for name in known if name in names}
    return found


def _example_value(parameter: Parameter) -> Json:
    values: list[Json] = [parameter.example, parameter.default, *(parameter.enum or ())]
    return next((value for value in values if value is not None), None)


class _Dumper(yaml.SafeDumper):
    """Writes YAML as people do: lists set in, text of several lines as a block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def as_yaml(value: Json | list[dict[str, Json]], width: int = WIDTH) -> str:
    """Return a value as YAML, without the line end at its end."""
    told: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=max(40, width - 1))
    return told.rstrip().removesuffix("\n...")
