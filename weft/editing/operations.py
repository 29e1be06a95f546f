"""What can be done to a document, as clients send it.

Paths lead from the document's root: `["steps", 0, "with", "model"]`. Offsets of `text` count characters (Unicode code
points, not UTF-16 units) of the text without its byte order mark.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, TypeAdapter, model_validator

from weft.types import Json, Name

Part: TypeAlias = StrictStr | Annotated[StrictInt, Field(ge=0)]
Path: TypeAlias = tuple[Part, ...]


class _Operation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Set(_Operation):
    """Gives a value to the key or item at a path.

    A key that is not there is added at the end of its mapping, an item one behind the last is appended; what is missing
    on the way is made, and a key without a value counts as missing.
    """

    op: Literal["set"] = "set"
    path: Path
    """Where."""
    value: Json
    """What it is from now on."""


class Insert(_Operation):
    """Puts an item into a list; a list that is missing, or a key without a value, is made one."""

    op: Literal["insert"] = "insert"
    path: Path
    """The list."""
    index: Annotated[StrictInt, Field(ge=0)] | None = None
    """Before which item; left out: at the end."""
    item: Json = None
    """The item."""
    text: str | None = Field(default=None, min_length=1)
    """The item as YAML, with its comments; a text that is a list in lines with dashes holds several items."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if ("item" in self.model_fields_set) == (self.text is not None):
            raise ValueError("needs exactly one of 'item' and 'text'")
        return self


class Remove(_Operation):
    """Takes out a key or an item, and the comments that are its own."""

    op: Literal["remove"] = "remove"
    path: Path = Field(min_length=1)
    """Which."""


class Move(_Operation):
    """Moves an item of a list, with its comments, within the list or to another one."""

    op: Literal["move"] = "move"
    path: Path = Field(min_length=1)
    """The item."""
    to: Path
    """The list that it comes to, by the path that it has before the move."""
    index: Annotated[StrictInt, Field(ge=0)]
    """Which item it is in that list afterwards."""


class RenameStep(_Operation):
    """Gives a step another id, and lets everything that speaks of the step use it."""

    op: Literal["rename_step"] = "rename_step"
    path: Path = Field(min_length=2)
    """The step."""
    id: Name
    """Its new id."""


class TextEdit(_Operation):
    """One piece of text put in the place of another."""

    start: Annotated[StrictInt, Field(ge=0)]
    """The first character that goes."""
    end: Annotated[StrictInt, Field(ge=0)]
    """The first character that stays."""
    text: str
    """What comes instead."""


class Text(_Operation):
    """Changes the text itself: what an undo sends, and a text editor."""

    op: Literal["text"] = "text"
    edits: tuple[TextEdit, ...]
    """What changes, all by the offsets of the text as it is before; no two may overlap."""


Operation: TypeAlias = Annotated[Set | Insert | Remove | Move | RenameStep | Text, Field(discriminator="op")]
"""One operation, told apart by `op`."""

OPERATIONS: TypeAdapter[list[Operation]] = TypeAdapter(list[Operation])
"""Reads operations from what a client has sent."""
