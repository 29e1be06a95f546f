"""What the process says when it ends; documented in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum

from weft.errors import (
    ConnectionUnusable,
    InvalidDocument,
    InvalidInputs,
    NotFound,
    PackError,
    RunCancelled,
    WeftError,
)


class ExitCode(IntEnum):
    OK = 0
    RUN_FAILED = 1
    USAGE = 2  #: also inputs that the workflow does not take
    INVALID_DOCUMENT = 3  #: a workflow, manifest, connections file or pack
    NOT_FOUND = 4  #: also a connection that cannot serve, seen before the run
    FAULT = 70  #: of Weft itself (EX_SOFTWARE of sysexits.h)
    FILES = 74  #: a file or directory that cannot be read or written (EX_IOERR)
    CANCELLED = 130  #: by Ctrl-C, as shells say it: 128 + SIGINT
    BROKEN_PIPE = 141  #: 128 + SIGPIPE
    TERMINATED = 143  #: 128 + SIGTERM


def exit_code(error: WeftError) -> ExitCode:
    """Return the exit code for an error that ended a command."""
    match error:
        case InvalidInputs():
            return ExitCode.USAGE
        case InvalidDocument() | PackError():
            return ExitCode.INVALID_DOCUMENT
        case NotFound() | ConnectionUnusable():
            return ExitCode.NOT_FOUND
        case RunCancelled():
            return ExitCode.CANCELLED
        case _:
            return ExitCode.RUN_FAILED
