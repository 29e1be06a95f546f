from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft.sdk import ActionContext, Json, Variant

from ._acting import Arguments, act, chain


def attempts(arguments: Mapping[str, Json]) -> Sequence[Variant]:
    return chain(arguments)


async def send(arguments: Arguments, context: ActionContext) -> Json:
    """Do something that cannot be taken back."""
    return await act(arguments, context, sends=True)
