"""Renders hostile templates, each in a process of its own under resource limits, and tells what became of them.

Run as a script it reads JSON lines `{"engine": …, "template": …, "scope": …}` and answers each with a JSON line.
The engine `stock` is Jinja2's plain environment, the canary: it proves that the audit hook sees what it must see.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

CPU_S = 4
ADDRESS_SPACE = 1 << 30
WATCHED = (
    "os.",
    "subprocess.",
    "socket.",
    "open",
    "shutil.",
    "ctypes.",
    "import",
    "exec",
    "compile",
    "pickle.",
    "pty.",
)


def peak_kib() -> int:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def render(engine: str, template: str, scope: dict[str, Any]) -> Any:
    if engine == "stock":
        from jinja2 import Environment

        return Environment().from_string(template).render(scope)
    from weft import expressions

    return expressions.compile(template).render(scope)


def attempt(engine: str, template: str, scope: dict[str, Any]) -> dict[str, Any]:
    """Render once in this process and describe the outcome; the caller forked it for that."""
    seen: list[str] = []
    armed = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if armed and event.startswith(WATCHED):
            seen.append(f"{event} {str(arguments)[:60]}")

    sys.addaudithook(hook)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before, begin = peak_kib(), time.perf_counter()
    armed = True
    try:
        value = render(engine, template, scope)
        outcome = {"value": value if engine == "ours" else str(value), "error": None}
    except BaseException as error:  # noqa: BLE001 (the outcome is what is asked for)
        armed = False
        classes = [base.__name__ for base in type(error).__mro__]
        outcome = {"value": None, "error": classes, "message": str(error), "code": _code(error)}
    armed = False
    return outcome | {"seconds": time.perf_counter() - begin, "kib": peak_kib() - before, "seen": seen}


def _code(error: BaseException) -> str | None:
    problem = getattr(error, "problem", None)
    return problem.code if problem else None


def fork_and_attempt(request: dict[str, Any]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        answer = attempt(request["engine"], request["template"], request["scope"])
        with os.fdopen(write, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"value": None, "error": ["killed"], "status": status, "seen": []}


def main() -> None:
    for engine in ("ours", "stock"):  # load what both need, so that the children only render
        render(engine, "{{ 'a' | upper | title | tojson }}{% for a in [1] %}{{ loop.index }}{% endfor %}", {})
    for line in sys.stdin:
        print(json.dumps(fork_and_attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
