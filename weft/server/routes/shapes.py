"""What bodies of requests and answers are made of, in several modules of routes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Final

from fastapi import Path as InPath
from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from weft.errors import Problem
from weft.redaction import MASK, PATTERNS, Redactor
from weft.server.problems import ProblemObject, is_storable, problem_object
from weft.source import MAX_BYTES, MAX_DEPTH
from weft.types import Json, JsonObject

LARGEST_TEXT: Final = MAX_BYTES
"""Characters of a document that is sent; a larger one would be refused when it is read."""


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Asked(BaseModel):
    """The body of a request: what is not known in it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _bounded(value: Json) -> Json:
    """Refuse a value that is nested deeper than a document may be, and what Python's parser takes and JSON has not."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for each in level:
            match each:
                case dict():
                    _require_texts(each)
                    inner += each.values()
                case list():
                    inner += each
                case str():
                    _require_texts([each])
                case float() if not math.isfinite(each):
                    raise PydanticCustomError("not_json", "NaN and numbers beyond all bounds are no JSON")
        if not inner:
            return value
        level = inner
    raise PydanticCustomError("too_deep", "The value is nested deeper than {most} levels", {"most": MAX_DEPTH})


def _require_texts(texts: Iterable[str]) -> None:
    """Refuse halves of surrogate pairs: they could be kept, and never be answered again."""
    for text in texts:
        if not is_storable(text):
            raise PydanticCustomError("not_text", "A text or a name holds half of a surrogate pair")


Value = Annotated[Json, AfterValidator(_bounded)]
"""A JSON value as a document may have it."""

Object = Annotated[JsonObject, AfterValidator(_bounded)]
"""A JSON object as a document may have it."""

WorkflowName = Annotated[str, InPath(max_length=200, description="The workflow's name.")]


def told(problems: Iterable[Problem], redactor: Redactor) -> list[ProblemObject]:
    """Return problems for programs, secrets masked."""
    return [problem_object(problem, redactor) for problem in problems]


def masked(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value with every known secret masked, and whatever looks like a credential (rule B2)."""
    match value:
        case str():
            return PATTERNS.sub(MASK, redactor.text(value))
        case dict():
            return {masked(key, redactor): masked(item, redactor) for key, item in value.items()}
        case list():
            return [masked(item, redactor) for item in value]
        case _:
            return value
