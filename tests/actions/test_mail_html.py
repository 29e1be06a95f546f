"""Whatever an author or a model writes, the HTML of a mail neither runs anything nor fetches anything."""

from __future__ import annotations

import importlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from corpora.mail.inspector import faults
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.sdk import ActionContext, ActionError, Connection
from weft.testing.mail_server import MailServer

mail_body = importlib.import_module("weft_core.actions._mail_body")
mail_text = importlib.import_module("weft_core.actions._mail_text")
send_email = importlib.import_module("weft_core.actions.send_email")

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "corpora/mail/hostile_html.jsonl").read_text().splitlines()
]


async def sent(source: str, form: str) -> tuple[str, str]:
    """The text and the HTML that arrive at a real server."""
    async with MailServer() as server:
        where = {"host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com"}
        context = ActionContext(
            run_id="r",
            path="/mail",
            attempt=1,
            started_at=datetime.now(UTC),
            idempotency_key="r/mail",
            deadline=time.monotonic() + 20,
            connection=Connection("mail", "smtp", where),
        )
        given = {"to": "ada@example.com", "subject": "Hello", "body": source, "format": form}
        await send_email.send_email(send_email.Arguments.model_validate(given), context)
    return server.messages[0].text("plain"), server.messages[0].text("html")


@pytest.mark.parametrize("form", ["html", "markdown"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['id']} {row['kind']}")
async def test_hostile_sources_become_harmless(row: dict[str, Any], form: str) -> None:
    """Scripts, handlers, remote images, styles that fetch or cover, frames and forms do not arrive."""
    _, html = await sent(row["source"], form)

    assert faults(html) == []
    inner = html.partition("<body")[2].partition(">")[2].rpartition("</body>")[0]
    assert mail_body.clean(inner) == inner


def test_the_corpus_is_large() -> None:
    """The corpus cannot shrink or lose a kind unseen."""
    kinds = {"script", "event", "link", "remote image", "css", "document", "mutation", "markdown"}
    assert len(ROWS) >= 190
    assert kinds == {row["kind"] for row in ROWS}


@pytest.mark.parametrize(
    "html",
    [
        "<script>x</script>",
        "<img src=https://evil.test/x>",
        "<img src=cid:a onerror=x>",
        "<a href=javascript:x>y</a>",
        "<p style='background: url(x)'>",
        "<p style='margin: -5px'>",
        "<p style='position: fixed'>",
        "<!-- x -->",
        "<meta http-equiv=refresh content='0'>",
        "<style>p{}</style>",
    ],
)
def test_the_inspector_sees_faults(html: str) -> None:
    """The judge of this file finds what it is there to find."""
    assert faults(html)


PIECES = st.sampled_from(
    [
        *(
            "<svg>",
            "</svg>",
            "<math>",
            "</math>",
            "<style>",
            "</style>",
            "<script>",
            "</script>",
            "<title>",
            "</title>",
        ),
        *("<table>", "<td>", "</table>", "<noscript>", "</noscript>", "<template>", "<xmp>", "</xmp>", "<b>", "</p>"),
        *("<mglyph>", "<mtext>", "<foreignObject>", "<form>", "<select>", "<textarea>", "</textarea>", "<!--", "-->"),
        *("<img src=x onerror=a>", "<a href=javascript:x>", "<p style='background:url(x)'>", "<iframe srcdoc='", "'>"),
        *("<![CDATA[", "]]>", '<p title="', '">', "'", "`", "<", ">", " ", "\n", "x", "&lt;", "&#0;", "\x00"),
        *("![x](https://e/)", "[x](javascript:y)", "```", "\n\n", "| a |\n|---|\n"),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join), st.sampled_from(["html", "markdown"]))
@settings(max_examples=300, deadline=None)
def test_no_mixture_of_tags_gets_through(source: str, form: str) -> None:
    """Pieces that readers of HTML take differently add up to nothing either."""
    page = mail_body.body(source, form).html

    assert faults(page) == []


# What people wrote is still there


def test_markdown_looks_as_written() -> None:
    """Headings, tables, code, quotes, links and struck words are styled elements, and raw HTML is shown as text."""
    source = "# Hi\n\n~~old~~ **new** [docs](https://example.com/?a=1&b=2)\n\n> said\n\n```py\nx = 1 < 2\n```\n\n<b>raw</b>\n"
    page = mail_body.body(source, "markdown").html

    assert '<h1 style="' in page
    assert "<s>old</s> <strong>new</strong>" in page
    assert (
        '<a href="https://example.com/?a=1&amp;b=2" style="color: #0b5cad" rel="noopener noreferrer">docs</a>' in page
    )
    assert "x = 1 &lt; 2\n</code></pre>" in page
    assert "&lt;b&gt;raw&lt;/b&gt;" in page


def test_a_remote_picture_in_markdown_is_a_link() -> None:
    """The reader decides whether to look; nothing is fetched when the mail is opened."""
    page = mail_body.body("![the *chart*](https://example.com/c.png)", "markdown").html

    assert "<img" not in page
    assert '<a href="https://example.com/c.png"' in page
    assert ">the chart</a>" in page


def test_safe_styles_of_the_author_stay() -> None:
    """Colours, sizes and borders of an author's HTML are kept, the rest of the same attribute is not."""
    source = (
        "<p style=\"COLOR: rgb(1, 2, 3); position: fixed; padding: 4px 8px; font-family: 'Segoe UI', sans-serif\">x</p>"
    )

    assert mail_body.clean(source) == (
        "<p style=\"color: rgb(1, 2, 3); padding: 4px 8px; font-family: 'Segoe UI', sans-serif\">x</p>"
    )


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b</p>", "a\n\nb\n"),
        ("a<br>b", "a\nb\n"),
        ("<h2>T</h2>\n<p>a\n  b</p>", "T\n\na b\n"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>d", "- a\n  - b\n- c\n\nd\n"),
        ("<ol start=3><li>a</li><li>b</li></ol>", "3. a\n4. b\n"),
        ("<table><tr><th>a</th> <th>b</th></tr>\n<tr><td>1<td>2</tr></table>x", "a | b\n1 | 2\n\nx\n"),
        (
            '<a href="https://e.test/">e</a> <a href="https://e.test/">https://e.test/</a>',
            "e <https://e.test/> https://e.test/\n",
        ),
        ('<a href="mailto:a@e.test">a@e.test</a>', "a@e.test\n"),
        ("<pre>a\n  b\n</pre>c", "a\n  b\n\nc\n"),
        ('x <img src="cid:a" alt="logo"> y', "x logo y\n"),
        (
            "<table><tr><th>name</th><th>n</th></tr><tr><td>Ada</td><td>1,204</td></tr></table>",
            "name | n\nAda  | 1,204\n",
        ),
        ("<table><tr><td><table><tr><td>a<td>bb<tr><td>ccc<td>d</table><td>x</table>", "a   | bb\nccc | d\n\nx\n"),
        ("a<hr>b", "a\n\n----\n\nb\n"),
        ("a &lt;b&gt; &amp; c", "a <b> & c\n"),
        ("<div>a</div><div>b</div>", "a\nb\n"),
        ("", "\n"),
    ],
)
def test_html_as_text(html: str, text: str) -> None:
    """The text made from HTML keeps paragraphs, lists, tables, links and code readable."""
    assert mail_text.text_of(mail_body.clean(html)) == text


def test_tables_in_markdown_are_aligned_in_the_text() -> None:
    """What a model wrote for a renderer is readable where there is none; the rest of the source stays as it is."""
    source = (
        "Hi\r\n\r\n| a | number |\n|-|-:|\n|b \\| c|1|\n| **日本** | 12,000 |\n\n    | no | table |\n\n> |x|\n> |-|\n"
    )

    assert mail_body.body(source, "markdown").text == (
        "Hi\n\n| a        | number |\n|----------|-------:|\n| b \\| c   |      1 |\n| **日本** | 12,000 |\n"
        "\n    | no | table |\n\n> |x|\n> |-|\n"
    )
    assert mail_body.body("a\r\nb", "markdown").text == "a\r\nb"
    wide = f"|{'x' * 99}|b|\n|-|-|\n|c|d|\n"
    assert mail_body.body(wide, "markdown").text == wide


CELLS = st.lists(
    st.sampled_from(["a", "1,204", "`x`", "**b** c", "\\|", "[l](https://e.test/)", "日本", "é", "", "\\"]), max_size=4
)


@given(
    st.lists(st.sampled_from(["-", ":-", "-:", ":-:"]), min_size=1, max_size=4),
    st.lists(CELLS, min_size=1, max_size=5),
    st.sampled_from(["", "text\n", "- item\n\n", "```\n|a|\n```\n"]),
)
@settings(max_examples=200, deadline=None)
def test_an_aligned_table_says_the_same(sides: list[str], rows: list[list[str]], before: str) -> None:
    """The text, read as Markdown, has the same page as the source."""
    lines = [["h"] * len(sides), sides, *rows]
    source = before + "\n" + "".join(f"|{'|'.join(cells)}|\n" for cells in lines) + "\nafter\n"
    made = mail_body.body(source, "markdown")

    assert mail_body.body(made.text, "markdown").html == made.html


def test_a_picture_is_shown_only_when_it_is_attached() -> None:
    """A content id that no attachment has leaves its words, in Markdown and in HTML."""
    pictures = frozenset({"logo"})
    shown = mail_body.body("![us](CID:logo) ![you](cid:other)", "markdown", pictures)
    html = mail_body.body('<img src="cid:logo" alt="us"><img src="cid:other" alt="you">', "html", pictures)

    assert '<img src="cid:logo" alt="us"> you</p>' in shown.html
    assert '<img src="cid:logo" alt="us"><img alt="you">' in html.html
    assert shown.pictures == html.pictures == pictures
    assert mail_body.body("cid:logo", "text", pictures).pictures == frozenset()


def test_a_large_document_takes_little_time() -> None:
    """A body of 20,000 characters is ready at once, whatever it consists of, below the limit of nesting too."""
    start = time.process_time()
    for piece in (
        "<p style='color:red'>a</p>",
        "<b>x</b>",
        "<ul><li></ul>",
        "word *x* ",
        "[",
        "![",
        "> ",
        "`",
        "**",
        "a\n\n",
        "|-",
        "|a|b|\n|-|-|\n|1|2|\n\n",
        "<table><tr><td>a<td>b</table>",
    ):
        for form in ("html", "markdown"):
            mail_body.body((piece * 20_000)[:20_000], form)
    for deep in ("<div>", "<ul><li>", "<table><tr><td>"):
        mail_body.body((deep * 600 + "<p>x" * 20_000)[:40_000], "html")

    assert time.process_time() - start < 8


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("x" * 100_001, "markdown"),
        ("x" * 200_001, "html"),
        ("<p>" + "".join(f'<b title="{number}">' for number in range(500)) + "</p>" + "<p>x" * 5000, "html"),
        ("<p>" + "".join(f'<i title=\'"\' id="a>{number}">' for number in range(500)) + "</p>" + "<p>x" * 5000, "html"),
        ("<p>" + "".join(f"<U/{number}/>" for number in range(500)) + "</p>" + "<p>x" * 5000, "html"),
        ("<div>" * 2501, "html"),
        ("<ul><li>" * 20_000, "html"),
        ("<div/>" * 2501, "html"),
        ("<DIV\n a=b></p></ul>" * 2501, "html"),
        ("<rt>" * 2501, "html"),
    ],
)
def test_pages_that_would_grow_beyond_measure_are_refused(source: str, form: str) -> None:
    """Bodies that no reader shows whole, and HTML whose open tags multiply or pile up, are errors before the work."""
    [problem] = send_email.check({"body": source, "format": form})
    with pytest.raises(ActionError) as caught:
        mail_body.body(source, form)

    assert problem.code == caught.value.kind == "invalid_body"


@pytest.mark.parametrize(
    "source",
    [
        "<ul>" + "<li>x" * 5000 + "</ul>",
        "<p>x" * 5000,
        "<table>" + "<tr><td>x" * 3000,
        "x<br>" * 5000,
        "<div>x</div>" * 5000,
        "<svg>" + '<path d="M1"/>' * 3000 + "</svg>x",
        "<b>" * 2000 + "x",
    ],
)
def test_what_is_left_open_is_not_always_nested(source: str) -> None:
    """Elements that need no end tag, or end themselves, may stand in any number beside each other."""
    assert "x" in mail_body.body(source, "html").text


def test_a_long_report_in_html_is_no_such_page() -> None:
    """Thousands of rows with links and repeated formatting are sent."""
    row = '<tr><td><b>{0}</b></td><td><font color="#333">x</font></td><td><a href="https://e.test/{0}">y</a></td></tr>'
    source = "<table>" + "".join(row.format(number) for number in range(1500)) + "</table>"

    assert mail_body.body(source, "html").html.count("<tr>") == 1500
