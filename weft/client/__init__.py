"""A typed client of a Weft server, for programs: `Client`, and `AsyncClient` for those with a loop.

It stands on HTTP alone and imports nothing of what runs workflows. `models`, `async_operations` and all of `sync_…` are
made from the published description of the API and from the asynchronous source: `python tests/client/generate.py`.
"""

from weft.client.async_client import AsyncClient
from weft.client.frames import Frame
from weft.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "Frame"]
