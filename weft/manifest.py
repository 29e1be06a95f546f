"""What declares an action, and what declares a type of connection."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.types import Json, JsonObject, Name

Type = Literal["string", "integer", "number", "boolean", "array", "object"]

Widget = Literal[
    "text",
    "multiline",
    "password",
    "url",
    "number",
    "slider",
    "switch",
    "select",
    "combobox",
    "list",
    "key_value",
    "json",
    "messages",
    "tools",
    "addresses",
    "attachments",
]
"""How the form draws a parameter. Closed: a form that knows these knows every manifest."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Condition(Model):
    """Holds when another parameter has one of these values, or any value at all when `values` is left out."""

    parameter: Name
    values: list[Json] | None = Field(None, min_length=1)


class Options(Model):
    """Suggestions for a value: a fixed list, or a named source that the runtime answers."""

    values: list[Json] | None = None
    source: Literal["providers", "models"] | None = None
    depends_on: Name | None = None  #: the parameter whose value narrows the source
    closed: bool = False  #: whether only these are allowed


class Parameter(Model):
    """One parameter of an action, or one field of a connection type."""

    name: Name
    title: str = Field(min_length=1, max_length=60)
    description: str = Field(min_length=1)
    type: Type | list[Type]
    required: bool = False
    default: Json | None = None  #: null: the parameter is simply not given
    minimum: int | float | None = None
    maximum: int | float | None = None
    min_length: int | None = Field(None, ge=0)  #: characters of a string, items of an array
    max_length: int | None = Field(None, ge=0)
    pattern: str | None = None  #: a regular expression that the whole string must match
    enum: list[Json] | None = Field(None, min_length=1)
    items: JsonObject | None = None  #: JSON Schema of an array's items
    properties: dict[str, JsonObject] | None = None  #: JSON Schema of an object's members
    required_properties: list[str] | None = None
    additional_properties: bool | JsonObject = True
    widget: Widget
    placeholder: str | None = None
    example: Json | None = None
    secret: bool = False
    literal: bool = False  #: no expressions in it
    escape: Literal["html"] | None = None
    options: Options | None = None
    visible_when: Condition | None = None
    requires: list[Condition] = Field(default_factory=list)
    excludes: list[Name] = Field(default_factory=list)

    @property
    def types(self) -> tuple[Type, ...]:
        return tuple(self.type) if isinstance(self.type, list) else (self.type,)


class Parameters(Model):
    """The two groups of a form: what most people need, and the rest."""

    basic: list[Parameter] = Field(default_factory=list)
    advanced: list[Parameter] = Field(default_factory=list)


class Output(Model):
    """What the action returns: a JSON Schema and an example that satisfies it."""

    json_schema: JsonObject = Field(alias="schema")
    example: Json


class Manifest(Model):
    """The declaration of one action."""

    id: Name
    title: str = Field(min_length=1, max_length=60)
    purpose: str = Field(min_length=1, max_length=120)  #: one line
    description: str = ""
    category: str
    icon: str
    version: int = Field(ge=1)
    connection: Name | None = None  #: the type of connection that the action needs
    effects: Literal["none", "read", "send"]
    retry: Literal["safe", "guarded", "never"]
    parameters: Parameters
    output: Output

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """Every parameter in the order of the form: basic, then advanced."""
        return (*self.parameters.basic, *self.parameters.advanced)


class ConnectionType(Model):
    """The declaration of one type of connection: its fields, and the environment variables they may come from."""

    id: Name
    title: str = Field(min_length=1, max_length=60)
    purpose: str = Field(min_length=1, max_length=120)
    icon: str
    fields: list[Parameter]
    environment: dict[Name, list[str]] = Field(default_factory=dict)  #: field → variables; `{NAME}` is the connection's
