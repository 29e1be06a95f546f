"""Pages for people, without scripts: HTML of our own and one style sheet, so that the strictest policy holds."""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import Final

from fastapi.responses import HTMLResponse

from weft.errors import NotAuthenticated, WeftError
from weft.redaction import Redactor
from weft.server.problems import details_of, headers_of, status_of

STYLE: Final = "weft.css"


def page(title: str, body: str, *, status: int = 200, goes_to: str | None = None, wide: bool = False) -> HTMLResponse:
    """Return a page.

    Args:
        title: In plain text.
        body: HTML; whoever makes it has escaped what is not his own.
        status: Of the response.
        goes_to: A path that the browser opens by itself at once.
        wide: Whether it is read, and not filled in.
    """
    goes = f'<meta http-equiv="refresh" content="0;url={escape(goes_to)}">' if goes_to else ""
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{goes}<title>{escape(title)} · Weft</title>
<link rel="stylesheet" href="/assets/{STYLE}">
<link rel="icon" href="/assets/weft.svg" type="image/svg+xml">
</head>
<body class="{"wide" if wide else "narrow"}">
<header><a class="mark" href="/">weft</a></header>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
""",
        status,
    )


def refusal(error: WeftError, redactor: Redactor) -> str:
    """Return an error as a part of a page."""
    parts = []
    for problem in details_of(error, redactor).problems:
        remedy = f"<p>{escape(problem.remedy)}</p>" if problem.remedy else ""
        parts.append(
            f'<div class="refusal" role="alert"><p><strong>{escape(problem.message)}</strong></p>{remedy}</div>'
        )
    return "".join(parts)


def of_error(error: WeftError, redactor: Redactor) -> HTMLResponse:
    """Return an error as a page of its own."""
    is_unknown = isinstance(error, NotAuthenticated)
    link = '<p><a class="button" href="/login">Log in</a></p>' if is_unknown else '<p><a href="/">Back</a></p>'
    title = "Who are you?" if is_unknown else "This did not work"
    response = page(title, refusal(error, redactor) + link, status=status_of(error))
    response.headers.update(headers_of(error))
    return response


def asset(name: str) -> bytes:
    """Return a file that lies beside the pages."""
    return (resources.files("weft.server") / "static" / name).read_bytes()
