from __future__ import annotations

from weft.sdk import ActionContext, Json


async def store(context: ActionContext, text: str | None = None, artifact: str | None = None) -> Json:
    """Keep a text with the run, or read one back."""
    assert context.artifacts is not None
    if artifact is not None:
        return {"text": (await context.artifacts.read(artifact)).decode()}
    kept: Json = await context.artifacts.save((text or "").encode(), name="a.txt", content_type="text/plain")
    return kept
