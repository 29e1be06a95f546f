"""Makes `run.svg`: what a terminal shows after `weft run email-results` and a look into the outbox.

    python docs/images/make_run_picture.py

The commands are run for real, in a pseudo-terminal, with a home of their own.
"""

from __future__ import annotations

import fcntl
import html
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 84, 40
COMMANDS = ("weft run email-results", "weft outbox show")
THEME = TerminalTheme(
    (22, 27, 34),
    (230, 237, 243),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (177, 186, 196),
    ],
)
FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
.{unique_id}-title {{ font-size: 16px; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
"""As rich's own, without a font from elsewhere: an image in a page may load nothing."""

SPACE = "&#160;"
_INDENTED = re.compile(
    rf'x="(?P<x>[^"]+)" y="(?P<y>[^"]+)" textLength="(?P<length>[^"]+)"(?P<clip>[^>]*)>(?P<spaces>(?:{SPACE})+)(?P<rest>[^<]+)<'
)
_ERASED = re.compile(r"\x1b\[(\d*)([A-K])|\x1b\[\?\d+[hl]|\r|\n|\x1b\][^\x07]*\x07")


def main() -> None:
    """Run the commands and write the picture beside this file."""
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "WEFT_HOME": home, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        lines: list[Text] = []
        for command in COMMANDS:
            lines += [
                Text.assemble(("$ ", "green"), (command, "bold")),
                Text(),
                *screen(captured(command.split(), environ)),
                Text(),
            ]
    Path(__file__).with_name("run.svg").write_text(picture(lines[:-1]), encoding="utf-8")


def captured(command: Sequence[str], environ: dict[str, str], columns: int = COLUMNS) -> str:
    """Return all that `weft …` writes to a terminal of its own.

    Raises:
        CalledProcessError: It failed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    argv = [sys.executable, "-m", *command]
    process = subprocess.Popen(  # noqa: S603 - our own commands
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    written = b"".join(_read(ours))
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, argv, written.decode())
    return written.decode()


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:  # Linux says so when the last writer has gone
            return
        if not piece:
            return
        yield piece


def screen(written: str) -> list[Text]:
    """Return the lines that stand on the terminal in the end; knows the cursor movements that our display uses."""
    rows, at, start = [""], 0, 0
    for match in [*_ERASED.finditer(written), None]:
        rows[at] += written[start : match.start() if match else None]
        if match is None:
            break
        start = match.end()
        if match[0] == "\n":
            at += 1
            rows += [""] * (at == len(rows))
        elif match[2] == "A":
            at = max(0, at - int(match[1] or 1))
        elif match[2] == "K":
            rows[at] = ""
    while rows and not rows[-1]:
        rows.pop()
    return [Text.from_ansi(row) for row in rows]


def picture(lines: Sequence[Text]) -> str:
    """Return an SVG of lines on a terminal."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
    svg = console.export_svg(title="", theme=THEME, code_format=FORMAT, unique_id="run")
    return _INDENTED.sub(_moved, svg)


def _moved(text: re.Match[str]) -> str:
    """Begin a text where its first letter is: some viewers leave out the spaces before it."""
    spaces, letters = len(text["spaces"]) // len(SPACE), len(html.unescape(text["rest"]))
    cell = float(text["length"]) / (spaces + letters)
    x, length = float(text["x"]) + spaces * cell, letters * cell
    return f'x="{x:g}" y="{text["y"]}" textLength="{length:g}"{text["clip"]}>{text["rest"]}<'


if __name__ == "__main__":
    main()
