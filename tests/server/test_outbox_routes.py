"""The outbox over HTTP: foreign text, handed out as such."""

from __future__ import annotations

from email.message import EmailMessage

import pytest
from premises import Served

from weft.server.routes.foreign_html import harmless


async def kept(served: Served, number: int = 1) -> None:
    """Put mails with a text, hostile HTML and a file into the outbox."""
    for i in range(1, number + 1):
        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = f"Mail {i}", "a@example.org", "b@example.org"
        mail.set_content("The text.")
        mail.add_alternative("<p onclick='x()'>Hello <script>alert(1)</script><b>you</b></p>", subtype="html")
        mail.add_attachment(b"<svg onload=x()>", maintype="image", subtype="svg+xml", filename="../p.svg")
        await served.house.runtime.outbox.keep("a@example.org", ["b@example.org", "c@example.org"], mail.as_bytes())


async def test_a_mail(served: Served) -> None:
    """A mail is shown with its headers, its text, its HTML made harmless; the rest is downloaded and never shown."""
    await kept(served)
    client = await served.client("view")
    mail = (await client.get("/api/v1/outbox/1")).raise_for_status().json()
    assert (mail["subject"], mail["to"]) == ("Mail 1", ["b@example.org", "c@example.org"])
    assert mail["text"].strip() == "The text."
    assert mail["html"].strip() == "<p>Hello <b>you</b></p>"
    raw = await client.get(f"/api/v1/outbox/{mail['id']}/raw")
    assert b"Subject: Mail 1" in raw.content
    assert raw.headers["Content-Disposition"].startswith('attachment; filename="mail-1.eml"')
    file = await client.get("/api/v1/outbox/1/attachments/1")
    assert file.content == b"<svg onload=x()>"
    assert 'filename="p.svg"' in file.headers["Content-Disposition"]
    for missing in ("/api/v1/outbox/2", "/api/v1/outbox/1/attachments/2", "/api/v1/outbox/nobody"):
        assert (await client.get(missing)).status_code == 404


async def test_pages_of_mails(served: Served) -> None:
    """Mails are listed page by page, the newest first."""
    await kept(served, 5)
    client = await served.client("view")
    first = (await client.get("/api/v1/outbox", params={"limit": 3})).json()
    second = (await client.get("/api/v1/outbox", params={"limit": 3, "cursor": first["next"]})).json()
    assert [mail["number"] for mail in first["items"] + second["items"]] == [5, 4, 3, 2, 1]
    assert second["next"] is None


@pytest.mark.parametrize(
    "html",
    [
        "<script>x</script>",
        "<scr<script>ipt>x()</scr</script>ipt>",
        "<img src=x onerror=x()>",
        "<a href='javascript:x()'>a</a>",
        "<a href='java\nscript:x()'>a</a>",
        "<a href=' JaVaScRiPt:x()'>a</a>",
        "<svg><script>x()</script></svg>",
        "<math><mtext><img src=x onerror=x()></mtext></math>",
        "<iframe srcdoc='<script>x()</script>'></iframe>",
        "<style>@import 'https://evil.example'</style>",
        "<div style='background:url(https://evil.example)'>a</div>",
        "<img src='https://evil.example/pixel.gif'>",
        "<form action='https://evil.example'><input name=a><button>b</button></form>",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<base href='https://evil.example'>",
        "<noscript><p title='</noscript><img src=x onerror=x()>'></noscript>",
        "<p title='\"><img src=x onerror=x()>'>a</p>",
        "<!--><img src=x onerror=x()>-->",
        "<template><img src=x onerror=x()></template>",
        "<object data='data:text/html,<script>x()</script>'></object>",
        "<table background='https://evil.example'><tr><td>a</table>",
    ],
)
def test_foreign_html_is_harmless(html: str) -> None:
    """Nothing in what is shown runs, is sent, or is fetched; made harmless again it stays as it is."""
    shown = harmless(html)
    tags = [part.split(">")[0].lower() for part in shown.split("<")[1:]]
    names = {tag.strip("/").split(" ")[0] for tag in tags}
    assert not names & {
        "script",
        "style",
        "iframe",
        "form",
        "input",
        "meta",
        "base",
        "object",
        "svg",
        "math",
        "template",
    }
    assert not any(" on" in tag.replace("&quot;", '"').split('"')[0] for tag in tags)
    assert not any("javascript:" in tag for tag in tags)
    assert 'src="http' not in shown
    assert "background=" not in shown
    assert " style=" not in shown
    assert harmless(shown) == shown


def test_plain_html_keeps_its_look() -> None:
    """Text, tables, links and images inside of the mail stay."""
    html = '<h1>A</h1><table border="1"><tr><td colspan="2">b &amp; c</td></tr></table><p>d<br>e</p>'
    assert harmless(html) == html
    assert 'href="https://example.org/a?b=1&amp;c=2"' in harmless('<a href="https://example.org/a?b=1&amp;c=2">x</a>')
    assert 'src="data:image/png;base64,AAAA"' in harmless('<img src="data:image/png;base64,AAAA">')
