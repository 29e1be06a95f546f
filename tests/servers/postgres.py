"""A real PostgreSQL server for tests, on a port of loopback and a socket of its own.

It lives in a temporary directory and touches nothing of the machine's servers. PostgreSQL refuses to run as root, so
that root starts it as the package's user. `tests/install-servers` installs it.

    with Postgres() as server:
        ... connect to server.database(), a fresh database for each call ...
        server.stop("immediate")
        server.start()
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg

PACKAGE_USER = "postgres"

QUICK = {"fsync": "off", "full_page_writes": "off"}
"""For tests that do not judge what survives a crash of the machine; a crash of the server loses nothing."""

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def binaries() -> Path:
    """Return the directory of the newest PostgreSQL of this machine."""
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise FileNotFoundError("PostgreSQL is missing: run tests/install-servers")
    return versions[-1].parent


class Postgres:
    """PostgreSQL, from `with` to its end.

    Args:
        settings: Of the server, beside its own; by default it is quick and would lose things in a power cut.
    """

    host = "127.0.0.1"

    def __init__(self, settings: Mapping[str, str] = QUICK) -> None:
        self.port = 0
        self._settings = dict(settings)
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        self._binaries = binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="weft-postgres-"))
        self.port = _free_port()
        if os.geteuid() == 0:
            shutil.chown(self.directory, PACKAGE_USER, PACKAGE_USER)
        try:
            initdb = [
                "initdb",
                "-D",
                "data",
                "-U",
                "weft",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
                "-N",
            ]
            self._start(initdb).wait(timeout=60)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- its life
    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = {
            **self._settings,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "shared_buffers": "32MB",
            "max_connections": "100",
            "authentication_timeout": "10s",  # a stop waits for who has connected and not said who he is
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = self._start(["postgres", "-D", "data", *options])
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.address("postgres")):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL has not started: {self.log()[-2000:]}")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it: `fast` ends all sessions, `immediate` is a crash."""
        if self._process is None:
            return
        self._process.send_signal(SIGNALS[mode])
        self._process.wait(timeout=30)
        self._process = None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Crash and come back as a replica that takes over: the same data on another timeline."""
        self.stop("immediate")
        signal_file = self.directory / "data" / "standby.signal"
        signal_file.touch()
        if os.geteuid() == 0:
            shutil.chown(signal_file, PACKAGE_USER, PACKAGE_USER)
        self.start()
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    # ---- its databases
    def database(self) -> str:
        """Make an empty database and return its address."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        return self.address(name)

    def address(self, database: str, *, port: int | None = None) -> str:
        """Return the address of a database, perhaps by a proxy's port."""
        return f"postgresql://weft@{self.host}:{port or self.port}/{database}"

    def log(self) -> str:
        """What the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        user = PACKAGE_USER if os.geteuid() == 0 else None
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(
                [self._binaries / command[0], *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"LC_ALL": "C", "PATH": os.defpath},
                user=user,
                group=user,
                extra_groups=[] if user else None,
                start_new_session=True,
            )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
