"""A document at fault in its form, mended, so that its rules can be judged all the same.

A fault of form leaves no model to check further. So what is at fault is mended in a copy: a misspelt key is given the
name that was meant, a wrong value is taken out, a missing one replaced by something neutral.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from weft import validation, wording
from weft.errors import InvalidDocument
from weft.source import Source
from weft.types import DocumentPath, Json

ROUNDS = 6
"""How often a document is mended: one mending may bring another fault to light."""

M = TypeVar("M", bound=BaseModel)


class Mending(ABC, Generic[M]):
    """A copy of a document that is being mended. Positions in its lists stay the same, so that paths do.

    A subclass knows the documents of some models. Their *items* are the parts that others speak of by name.
    """

    NAME: ClassVar[str]
    """The key under which an item has its name."""
    NEUTRAL: ClassVar[Mapping[str, Json]]
    """What is put where a key is missing; without any, its holder is taken out."""

    def __init__(self, model: type[M], source: Source) -> None:
        self.model = model
        self.source = source.copy()
        self.value: Any = self.source.value
        self.items: set[DocumentPath] = set()  #: those that were changed otherwise than by naming a key right
        self.lost: set[str] = set()  #: keys of the document whose content is not known
        self._numbers = itertools.count(1)

    @abstractmethod
    def item(self, path: DocumentPath) -> DocumentPath:
        """Return the path of the innermost item that a path leads into, an empty one when there is none."""

    @abstractmethod
    def loses(self, path: DocumentPath) -> bool:
        """Return whether others may speak of what stands at `path`."""

    def built(self, error: type[InvalidDocument]) -> M | None:
        """Mend all faults of form and return the model; None when too little of the document can be understood."""
        for _ in range(ROUNDS if isinstance(self.value, dict) else 0):
            try:
                return validation.build(self.model, self.source, error)
            except InvalidDocument as invalid:
                for problem in invalid.problems:
                    self.mend(wording.path_of(problem.where.field or ""), problem.code)
        return None

    def mend(self, path: DocumentPath, code: str) -> None:
        """Mend one fault."""
        holder = self._at(path[:-1])
        if not isinstance(holder, dict | list):  # it was taken out because of another fault
            return
        meant = validation.key_meant(self.model, self.source, path) if code == "unknown_key" else None
        if meant is not None and meant not in holder:
            self.source.rename(path, meant)
            return
        item = self.item(path)
        if item:
            self.items.add(item)
        if item and path == (*item, self.NAME):
            self._name(item)
        elif item and path == item:
            self._at(item[:-1])[item[-1]] = {self.NAME: self.invented(item)}
        elif code == "missing_key":
            self.supply(path)
        else:
            self._take_out(path)

    def supply(self, path: DocumentPath) -> None:
        """Put something neutral where a key is missing."""
        key = str(path[-1])
        self._lose(path)
        if key in self.NEUTRAL:
            self._at(path[:-1])[key] = copy.deepcopy(self.NEUTRAL[key])
        else:
            self._take_out(path[:-1])

    def invented(self, item: DocumentPath) -> str:
        """Return a name that nothing speaks of."""
        self.lost.add(str(item[0]))
        return f"without-name-{next(self._numbers)}"

    def _name(self, item: DocumentPath) -> None:
        """Give an item the name that its own comes nearest to, or one that nothing speaks of."""
        holder = self._at(item)
        name = wording.as_name(holder.get(self.NAME))
        siblings = [other.get(self.NAME) for other in self._at(item[:-1]) if isinstance(other, dict)]
        holder[self.NAME] = name if name and name not in siblings else self.invented(item)

    def _take_out(self, path: DocumentPath) -> None:
        holder = self._at(path[:-1])
        self._lose(path)
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
        elif len(path) > 1:  # an item of a list: without it the positions of others would change
            self._take_out(path[:-1])

    def _lose(self, path: DocumentPath) -> None:
        if self.loses(path):
            self.lost.add(str(path[0]))

    def _at(self, path: DocumentPath) -> Any:
        value = self.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value
