"""Commands under a ban of sockets and processes, as a process of its own: an audit hook cannot be taken away again.

    python socket_ban.py '[["run", "workflows/x.yaml", "--dry-run", "--json"], …]'

Prints a JSON object: exit code and output of each command, and every event that is banned. With LET_THROUGH in the environment the
action of that id is called as if it had no effect outside: then there must be events.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sys
from typing import Any

BANNED = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.sendmsg",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
)
events: list[str] = []


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event in BANNED:
        events.append(event)
    elif event == "socket.__new__" and arguments[1] != socket.AF_UNIX:  # the loop wakes itself by a pair of its own
        events.append(f"{event} {arguments[1]!r}")


def main() -> None:
    from weft.cli.app import COMMANDS, weft
    from weft.cli.state import State
    from weft.rehearsal import performing

    if through := os.environ.get("LET_THROUGH"):
        effects_of = performing.effects_of
        performing.effects_of = lambda call: "none" if call.step.uses == through else effects_of(call)
    COMMANDS.setdefault("test", "")
    sys.addaudithook(listen)
    told = []
    for command in json.loads(sys.argv[1]):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = weft.main(command, prog_name="weft", standalone_mode=False, obj=State())
        told.append({"code": code, "output": json.loads(printed.getvalue())})
    print(json.dumps({"told": told, "events": events}))


main()
