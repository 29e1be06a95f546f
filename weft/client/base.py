"""What all generated models stand on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Takes what a newer server says besides, and is built when it is first used."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, populate_by_name=True)
