import asyncio
from pathlib import Path

import pytest

from weft.sdk import ActionError, Connection, Secret
from weft.testing import run_action, run_connection_test
from weft.testing.http_server import HttpServer, Reply, drop

PACK = Path(__file__).parent.parent


async def page(answer, **given):
    async with HttpServer() as server:
        server.script([answer])
        pager = Connection("on-call", "pager", {"address": server.origin, "token": Secret("t-123456")})
        output = await run_action(PACK, "page_someone", {"text": "Help", **given}, connection=pager)
        return output, server.requests


def test_pages():
    output, requests = asyncio.run(page(Reply(201, json={"number": 17}), urgent=True))

    assert output == {"number": 17}
    assert [request.json for request in requests] == [{"text": "Help", "urgent": True}]
    assert requests[0].headers["authorization"] == "Bearer t-123456"


@pytest.mark.parametrize(
    ("answer", "kind", "effect", "retryable"),
    [
        (Reply(401), "refused", "none", False),
        (Reply(503), "refused", "unknown", True),
        (Reply(201, body=b"thanks"), "no_answer", "unknown", True),
        (drop, "no_answer", "unknown", True),
    ],
)
def test_says_what_is_known(answer, kind, effect, retryable):
    with pytest.raises(ActionError) as caught:
        asyncio.run(page(answer))

    assert (caught.value.kind, caught.value.effect, caught.value.retryable) == (kind, effect, retryable)
    assert "t-123456" not in str(caught.value)


def test_the_account_can_be_tested():
    async def told(status):
        async with HttpServer() as server:
            server.route("/me", Reply(status))
            return await run_connection_test(PACK, "pager", {"address": server.origin, "token": "t-123456"})

    assert asyncio.run(told(200)) == "The pager knows the token; nobody was paged."
    with pytest.raises(ActionError, match="refuses the token: status 401"):
        asyncio.run(told(401))
