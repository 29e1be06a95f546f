"""Control flow as generators: a block yields what it waits for, and is sent what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from weft.engine.operations import Key, Operation, Pause, Reach
from weft.engine.results import StepResult

Block: TypeAlias = Generator["Operation | Spawn | Timed | OnRecord", Any, Any]


@dataclass(frozen=True, slots=True)
class Child:
    """A block among others beside it."""

    key: str | int
    needs: tuple[str, ...]
    start: Callable[[Mapping[Any, StepResult]], Block]


@dataclass(slots=True)
class Spawn:
    """Blocks to run side by side, each when what it needs has settled; answered with their results by key."""

    children: Iterator[Child]
    limit: int | None
    reach: Reach
    parent: Block | None = None
    waiting: list[Child] = field(default_factory=list)
    results: dict[Any, StepResult] = field(default_factory=dict)
    running: int = 0
    stopped: bool = False


@dataclass(slots=True)
class Timed:
    """A block beside a timer that ends its reach; answered with what the block came to, and whether the timer rang first."""

    block: Block
    timer: Pause
    inner: Reach  #: of the block; the timer belongs to what is around it
    parent: Block | None = None
    rang: bool = False


@dataclass(frozen=True, slots=True)
class OnRecord:
    """Wait until a question is on record; answered with its facts as they stand there."""

    key: Key
