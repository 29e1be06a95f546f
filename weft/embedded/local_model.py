"""A real language model in this process, reached like any other provider: over HTTP, by an address and a key."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import platform
import secrets
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from weft.embedded import weights
from weft.errors import ConnectionUnusable, NotFound, WeftError
from weft.redaction import Secret
from weft.sdk import Connection

if TYPE_CHECKING:
    from weft.embedded.model_adapter import ModelAdapter

NAME = "local-model"
MODEL_NAME = "smollm2-135m-instruct"
CONTEXT_TOKENS = 2048  #: of one slot: prompt and answer together
BATCH_TOKENS = 256  #: of a prompt; an abort is heard between batches
REQUEST_TIMEOUT_S = 600.0
NEEDED_FEATURES = frozenset({"avx2", "bmi2", "f16c", "fma"})
"""Of an x86-64 processor; the wheel of xllamacpp is built for them and would end the process without."""

_servers: list[Any] = []
"""Every server that has not come to rest. Destroying one holds all threads of the process until its generations have
ended; so none is destroyed by chance, and those that are left here end with the process."""


class LocalModel:
    """llama.cpp's server behind our adapter, started on demand, ended with the process.

    Args:
        home: Weft's directory; fetched weights are kept below it.
        gguf: Another model's file; nothing is fetched then.
        slots: How many generations run at once, and the largest `n`.
        progress: Told of every step while weights are being fetched: bytes here, bytes in all.
    """

    def __init__(
        self,
        home: Path,
        *,
        gguf: Path | None = None,
        slots: int = 4,
        progress: weights.Progress | None = None,
    ) -> None:
        self.api_key = Secret(secrets.token_urlsafe(24))
        self._home = home
        self._gguf = gguf
        self._slots = slots
        self._progress = progress
        self._starting: asyncio.Task[None] | None = None
        self._server: Any = None
        self._adapter: ModelAdapter | None = None
        self._api_base: str | None = None

    @property
    def api_base(self) -> str:
        """The address for clients, known once it has started."""
        if self._api_base is None:
            raise RuntimeError("the local model has not been started")
        return self._api_base

    async def start(self) -> None:
        """Start it, unless it runs; callers that come meanwhile wait for the same start.

        A caller that is cancelled leaves the start to the others; `stop()` ends it. After a failure the next call
        tries anew.

        Raises:
            ConnectionUnusable: A part is missing, or the model cannot be loaded.
            NotFound: The GGUF file is not there.
        """
        if self._api_base is not None:
            return
        starting = self._starting
        if starting is None:
            starting = self._starting = asyncio.create_task(self._start())
            starting.add_done_callback(self._started)
        await asyncio.wait([starting])  # unlike awaiting it, this leaves it alone when the caller is cancelled
        if starting.cancelled():
            raise ConnectionUnusable(f"The connection {NAME!r} was stopped while it was starting.")
        try:
            starting.result()
        except WeftError as error:  # each caller gets its own, because callers complete the place in it
            raise type(error)(problems=error.problems) from error

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # has been seen, even when every caller has gone

    async def _start(self) -> None:
        _check_machine()
        path = self._gguf or await weights.ensure(self._home, self._progress)
        _check_gguf(path)
        inner_key = Secret(secrets.token_urlsafe(24))
        name = MODEL_NAME if self._gguf is None else path.stem
        server = await asyncio.to_thread(_serve, path, name, inner_key, self._slots)
        _servers.append(server)
        self._server = server
        from weft.embedded.model_adapter import ModelAdapter  # noqa: PLC0415 - its HTTP server takes 0.2 s to import

        self._adapter = ModelAdapter(
            server.listening_address, inner_key, self.api_key, request_timeout_s=REQUEST_TIMEOUT_S
        )
        self._api_base = await self._adapter.start()

    async def stop(self) -> None:
        """Abort what is running and close the ports; it may be started again."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        self._api_base = None
        adapter, self._adapter = self._adapter, None
        server, self._server = self._server, None
        if adapter and await adapter.stop():
            _servers.remove(server)

    async def connection(self) -> Connection:
        """Return the connection that leads here, after starting what it needs."""
        await self.start()
        return Connection(
            name=NAME,
            type="model_provider",
            values={
                "provider": "openai",
                "api_key": self.api_key,
                "api_base": self.api_base,
                "unsupported_parameters": "error",
                "request_timeout_s": REQUEST_TIMEOUT_S,
            },
        )


def _check_machine() -> None:
    """Refuse what would fail later or end the process, before anything is fetched."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConnectionUnusable(
            f"The connection {NAME!r} needs the package 'xllamacpp', which is not installed.",
            remedy="Install it with: pip install 'weft[local]'",
        )
    if missing := missing_features():
        raise ConnectionUnusable(
            f"The connection {NAME!r} cannot run here: this processor lacks {', '.join(sorted(missing))}.",
            remedy="Use a connection to another provider, or a machine with a newer processor.",
        )


def missing_features(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> frozenset[str]:
    """Return what the processor lacks, as far as the system tells: Linux does, and recent Macs have them all."""
    if (machine or platform.machine()).lower() not in {"x86_64", "amd64"}:
        return frozenset()
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), NEEDED_FEATURES)
    return NEEDED_FEATURES.difference(flags)


def _check_gguf(path: Path) -> None:
    if not path.is_file():
        raise NotFound(f"There is no GGUF file at {str(path)!r}.", remedy="Correct the path of the local model.")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise _not_loadable(path, "it is not a GGUF file")


def _not_loadable(path: Path, reason: str) -> ConnectionUnusable:
    return ConnectionUnusable(
        f"The model {str(path)!r} cannot be loaded: {reason}.",
        remedy="Use a complete GGUF file of a chat model that llama.cpp knows, and that fits in memory.",
    )


def _serve(path: Path, name: str, key: Secret, slots: int) -> Any:
    """Load the model and return llama.cpp's server, which listens from then on. Blocks while it loads."""
    xllamacpp = _runtime()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key.reveal()]
    params.ui = False
    params.warmup = False
    params.verbosity = -1
    params.cache_prompt = False  # with it, one seed gives other texts after other requests
    params.n_parallel = slots
    params.n_ctx = CONTEXT_TOKENS * slots
    params.n_batch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, _cores() // 2)
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise _not_loadable(path, "llama.cpp refuses it") from error


def _runtime() -> ModuleType:
    """Import xllamacpp with its threads told to sleep at barriers.

    They spin otherwise, and on a busy machine the model falls below one token per second. OpenMP reads the variable
    once, when the library is loaded.
    """
    variable = "OMP_WAIT_POLICY"
    given = os.environ.get(variable)
    os.environ.setdefault(variable, "passive")
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ConnectionUnusable(
            f"The connection {NAME!r} needs the package 'xllamacpp', which cannot be loaded here.",
            remedy="Install it anew with: pip install --force-reinstall 'weft[local]'",
        ) from error
    finally:
        if given is None:
            del os.environ[variable]


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
