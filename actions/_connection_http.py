"""Whether a connection of type `http` works."""

from __future__ import annotations

from weft.sdk import ActionContext, ActionError, Connection

from ._http import Request, Response, exchange, host_of
from ._http_account import Account
from ._http_answer import refusal


async def test(connection: Connection, context: ActionContext) -> str:
    """Read the test address, or the base address, with the connection's credentials, and then without.

    Raises:
        ActionError: It cannot be read, or the credentials are refused; with kind `untestable` when the answer does not
            tell whether they are taken.
    """
    account = Account(connection)
    where = connection.get("test_url") or connection.get("base_url")
    if where is None:
        raise ActionError(
            "The fields go together; without `test_url` or `base_url` there is nothing to ask.",
            kind="untestable",
            effect="none",
            remedy="Give the connection a `test_url` that answers to its credentials.",
        )
    url, tested = account.place(where), connection.get("test_url") is not None
    told = _told(await account.send(Request("GET", url), context), account, tested=tested)
    if account.auth != "none":
        bare = Request("GET", url, account.headers, confidential=bool(account.headers))
        _check_bare(await exchange(bare, account.rules, context))
    return told


def _check_bare(response: Response) -> None:
    """Refuse to call credentials proved that the answer does not depend on."""
    host, status = host_of(response.url), response.status
    if 200 <= status < 300:
        what = "gives the same answer without credentials: the address is right, they were not looked at"
    elif status == 429 or status >= 500:
        what = f"answered {status} when asked without credentials, so it is not known whether they were looked at"
    else:
        return
    raise ActionError(
        f"{host} {what}.",
        kind="untestable",
        effect="none",
        remedy="Give the connection a `test_url` that answers to its credentials only.",
    )


def _told(response: Response, account: Account, *, tested: bool) -> str:
    host, status = host_of(response.url), response.status
    if 200 <= status < 300 and tested and account.auth != "none":
        return f"{host} answered {status} to these credentials; nothing was changed."
    if (tested and not 200 <= status < 300) or status in (401, 403, 407) or status >= 500:
        raise refusal(response)
    if account.auth == "none":
        return f"{host} can be reached and answered {status}; nothing was changed."
    proved = "A token was given, and " if account.auth == "oauth2" else ""
    raise ActionError(
        f"{proved}{host} can be reached and answered {status}, which does not tell whether the credentials are taken.",
        kind="untestable",
        effect="none",
        remedy="Give the connection a `test_url` that answers to its credentials only.",
    )
