"""What Slack's answers mean (docs.slack.dev/reference/methods/chat.postMessage#errors, …/messaging/errors)."""

from __future__ import annotations

import re
from typing import Final

from weft.sdk import ActionError, JsonObject

from ._http import Response
from ._http_answer import refusal, retry_after_s
from ._notify_http import ok, parsed, text_of, unclear

KINDS: Final = {
    "authentication": """
        account_inactive invalid_auth invalid_token not_authed token_expired token_revoked
    """,
    "forbidden": """
        access_denied accesslimited action_prohibited ekm_access_denied missing_scope no_permission not_allowed_token_type
        restricted_action restricted_action_non_threadable_channel restricted_action_read_only_channel
        restricted_action_thread_locked restricted_action_thread_only_channel team_access_not_granted
    """,
    "not_found": """
        channel_is_archived channel_not_found is_archived no_active_hooks no_service no_service_id no_team
        not_in_channel team_disabled user_not_found
    """,
    "too_long": "msg_blocks_too_long msg_too_long too_many_attachments",
    "rate_limited": "message_limit_exceeded rate_limited ratelimited",
    "server_error": "fatal_error internal_error rollup_error service_unavailable team_added_to_org",
}
"""Kind → Slack's codes for it; after those of the last a part of the work may have been done."""
KIND_OF: Final = {code: kind for kind, codes in KINDS.items() for code in codes.split()}
REMEDIES: Final = {
    "authentication": "Renew the connection's token or webhook.",
    "forbidden": "Give the app the scope chat:write, and the right to post in this channel.",
    "not_found": "Check the channel, and invite the app into it; a webhook may have been deleted.",
    "too_long": "Send less.",
    "rate_limited": "Send fewer messages, or allow retries.",
    "server_error": "Look whether the message is there before sending it again.",
}
CODE: Final = re.compile(r"[a-z][a-z0-9_]{1,80}")


def webhook_answer(response: Response) -> JsonObject:
    """Return where the message stands, as far as a webhook says; it answers `ok` or a code.

    Raises:
        ActionError: It was not taken, or nobody knows.
    """
    if not ok(response):
        raise refused(response, response.body[:100].decode("utf-8", "replace").strip())
    if response.body.strip() != b"ok":
        raise unclear(response)
    return {"channel": None, "ts": None}


def api_answer(response: Response) -> JsonObject:
    """Return where the message stands, as the web API says.

    Raises:
        ActionError: It was not taken, or nobody knows.
    """
    answer = parsed(response)
    if answer.get("ok") is not True:
        if isinstance(answer.get("error"), str):
            raise refused(response, str(answer["error"]))
        raise unclear(response) if ok(response) else refusal(response)
    return {"channel": text_of(answer.get("channel")), "ts": text_of(answer.get("ts"))}


def refused(response: Response, code: str) -> ActionError:
    """Return the error that Slack's own code stands for; after a failure a part of the work may have been done."""
    repeated = code not in KIND_OF and code in response.url.path  # what poses as a code is a part of the secret
    if not CODE.fullmatch(code) or repeated or response.status in (408, 429):
        return refusal(response)
    kind = KIND_OF.get(code, "refused")
    failed = kind == "server_error"
    says = "failed, and the message may have been posted" if failed else "refused the request"
    return ActionError(
        f"Slack {says} ({code}).",
        kind=kind,
        effect="unknown" if failed else "none",
        retryable=kind == "rate_limited",
        retry_after_s=retry_after_s(response.headers),
        status=response.status,
        remedy=REMEDIES.get(kind, "Slack's reference tells what the code means."),
        details={"code": code},
    )
