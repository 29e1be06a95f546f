"""The inputs of a run as a command line gives them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from weft.errors import InvalidInputs, Where
from weft.types import Json

_ONE_OBJECT = 'Give one JSON object, in UTF-8: {"name": "value"}.'


def given(pairs: tuple[str, ...], file: Path | None) -> dict[str, Json]:
    """Return inputs by name: those of a file, and over them those of `--input`."""
    return _from_file(file) | _pairs(pairs)


def _pairs(pairs: tuple[str, ...]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE.", param_hint="'--input'")
        found[name] = value
    return found


def _from_file(file: Path | None) -> dict[str, Json]:
    if file is None:
        return {}
    try:
        value = json.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except json.JSONDecodeError as error:
        where = Where("standard input" if str(file) == "-" else str(file), error.lineno, error.colno)
        raise InvalidInputs(f"The inputs are not JSON: {error.msg}.", remedy=_ONE_OBJECT, where=where) from None
    except (UnicodeDecodeError, RecursionError):
        raise InvalidInputs(f"The inputs in {str(file)!r} are not JSON.", remedy=_ONE_OBJECT) from None
    if not isinstance(value, dict):
        raise InvalidInputs(f"The inputs in {str(file)!r} are no JSON object.", remedy=_ONE_OBJECT)
    return value
