"""Logins through an identity provider: OpenID Connect, authorization code with PKCE.

OpenID Connect Core 1.0 (2014, errata 2), §3.1; OAuth 2.0 Security Best Current Practice (RFC 9700); RFC 9207 (`iss`).
Authlib and joserfc are loaded by the first login.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from weft.access.identity import ROLES, Role
from weft.errors import InvalidInputs, NotAllowed, NotAuthenticated
from weft.types import JsonObject

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import KeySet

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
"""With which identity tokens may be signed: none that needs a shared secret, and not `none`."""
EXCHANGE_S: Final = 15.0
"""How long the provider may take to answer, all requests of a step together."""
MOST_BYTES: Final = 1_000_000
LEEWAY_S: Final = 60
"""By how much the provider's clock may differ from ours."""
KEYS_S: Final = 3600.0
"""How long its keys are used without looking again."""
ASK_AGAIN_S: Final = 10.0
"""Keys are not fetched more often, whatever tokens come."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What an installation says about its identity provider; docs/server.md."""

    issuer: str
    client_id: str
    client_secret: str
    roles: tuple[tuple[str, Role], ...]  #: a group of the provider → what its members are; `*`: everybody
    groups: str = "groups"  #: the claim that names the groups
    domains: tuple[str, ...] = ()  #: of e-mail addresses that may come in; none: all

    def __repr__(self) -> str:
        return f"Provider({self.issuer!r})"

    def role_of(self, claims: Mapping[str, Any]) -> Role | None:
        """Return the strongest role of all groups that somebody is in."""
        named = claims.get(self.groups)
        listed = named if isinstance(named, list) else [named]
        groups = {group for group in listed if isinstance(group, str)}
        found = {role for group, role in self.roles if group == "*" or group in groups}
        return next((role for role in reversed(ROLES) if role in found), None)


def read_provider(environ: Mapping[str, str]) -> Provider | None:
    """Read what the environment says; None: there is no provider.

    Raises:
        InvalidInputs: It says too little, or what cannot be meant.
    """
    issuer = environ.get("WEFT_OIDC_ISSUER", "").strip()
    if not issuer:
        return None
    parts = urlsplit(issuer)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise InvalidInputs(f"WEFT_OIDC_ISSUER is {issuer!r}; it must begin with https://.")
    client_id = environ.get("WEFT_OIDC_CLIENT_ID", "").strip()
    if not client_id:
        raise InvalidInputs("WEFT_OIDC_ISSUER is set, and WEFT_OIDC_CLIENT_ID is not.")
    roles = _roles(environ.get("WEFT_OIDC_ROLES", ""))
    domains = tuple(each.strip().lower() for each in environ.get("WEFT_OIDC_DOMAINS", "").split(",") if each.strip())
    groups = environ.get("WEFT_OIDC_GROUPS", "").strip() or "groups"
    return Provider(issuer, client_id, _secret(environ), roles, groups, domains)


def _roles(text: str) -> tuple[tuple[str, Role], ...]:
    found: list[tuple[str, Role]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        group, equals, name = (word.strip() for word in part.rpartition("="))
        role = next((role for role in ROLES if role == name), None)
        if not equals or not group or role is None:
            names = ", ".join(ROLES)
            raise InvalidInputs(f"WEFT_OIDC_ROLES says {part!r}; it takes group=role, with a role of: {names}.")
        found.append((group, role))
    if not found:
        raise InvalidInputs(
            "WEFT_OIDC_ISSUER is set, and WEFT_OIDC_ROLES is not: nobody could do anything.",
            remedy="Say which group is what: WEFT_OIDC_ROLES='weft-admins=admin, *=viewer'.",
        )
    return tuple(found)


def _secret(environ: Mapping[str, str]) -> str:
    file = environ.get("WEFT_OIDC_CLIENT_SECRET_FILE")
    if not file:
        return environ.get("WEFT_OIDC_CLIENT_SECRET", "").strip()
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputs(f"WEFT_OIDC_CLIENT_SECRET_FILE cannot be read ({type(error).__name__}).") from None


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that is under way."""

    address: str  #: where the browser goes
    facts: JsonObject  #: what must be known when it comes back


class Logins:
    """Sends browsers to an identity provider, and reads what they come back with.

    Args:
        provider: Which one.
        redirect: The address that it sends browsers back to.
        now: The clock, in seconds since 1970.
    """

    def __init__(self, provider: Provider, redirect: str, now: Callable[[], float] = time.time) -> None:
        self.provider = provider
        self._redirect = redirect
        self._now = now
        self._about: JsonObject = {}
        self._keys: KeySet | None = None
        self._keys_at = float("-inf")

    async def begin(self, state: str) -> Begun:
        """Return where to send a browser.

        Args:
            state: A secret, with which it comes back.

        Raises:
            NotAuthenticated: The provider does not answer as one does (`provider_failed`).
        """
        about = await self._discovered()
        facts: JsonObject = {"verifier": secrets.token_urlsafe(48), "nonce": secrets.token_urlsafe(24)}
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                about["authorization_endpoint"],
                state=state,
                code_verifier=facts["verifier"],
                nonce=facts["nonce"],
            )
        return Begun(address, facts)

    async def end(self, facts: JsonObject, code: str, iss: str | None) -> tuple[str, Role]:
        """Return who has come back, and what that one may be.

        Args:
            facts: As `begin` returned them.
            code: What the provider has given the browser.
            iss: Who the answer says it is from (RFC 9207), if it does.

        Raises:
            NotAuthenticated: What came back proves nothing (`bad_identity`), or the provider failed.
            NotAllowed: Who it is may not come in.
        """
        about = await self._discovered()
        if iss is not None and iss != self.provider.issuer:
            raise _bad("the answer is another provider's")
        text = await self._exchanged(str(about["token_endpoint"]), code, str(facts["verifier"]))
        claims = await self._verified(text, str(facts["nonce"]))
        return self._admitted(claims)

    def _admitted(self, claims: Mapping[str, Any]) -> tuple[str, Role]:
        # Whoever may write any address into a profile must not be taken for its owner: approvals are asked of names.
        email = str(claims.get("email") or "").strip() if claims.get("email_verified") is True else ""
        if self.provider.domains:
            domain = email.lower().rpartition("@")[2]
            if not email or domain not in self.provider.domains:
                raise NotAllowed("Only addresses of this installation's domains may log in.", code="foreign_domain")
        role = self.provider.role_of(claims)
        if role is None:
            raise NotAllowed(
                "You are in none of the groups that may use this installation.",
                code="no_role",
                remedy="Ask who runs it; WEFT_OIDC_ROLES says which group is what.",
            )
        return email or str(claims["sub"]), role

    # ---- what the provider says
    async def _discovered(self) -> JsonObject:
        if not self._about:
            address = self.provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
            about = await self._fetched(address)
            if about.get("issuer") != self.provider.issuer:
                raise _failed("it calls itself by another name than WEFT_OIDC_ISSUER does")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(about.get(name), str):
                    raise _failed(f"it does not say its {name}")
            self._about = about
        return self._about

    async def _exchanged(self, address: str, code: str, verifier: str) -> str:
        import httpx  # noqa: PLC0415  loaded by the first login
        from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]  # noqa: PLC0415  as above

        try:
            async with asyncio.timeout(EXCHANGE_S), self._client() as client:
                answer = await client.fetch_token(address, code=code, code_verifier=verifier)
        except (AuthlibBaseError, httpx.HTTPError, TimeoutError, ValueError) as error:
            raise _failed(f"it did not give a token ({type(error).__name__})") from None
        text = answer.get("id_token")
        if not isinstance(text, str):
            raise _bad("there is no identity token")
        return text

    async def _verified(self, text: str, nonce: str) -> Mapping[str, Any]:
        """Return what a token says, once it is proved (§3.1.3.7 of OpenID Connect Core)."""
        from joserfc import jwt  # noqa: PLC0415  as above
        from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415

        try:
            token = jwt.decode(text, await self._known_keys(), algorithms=ALGORITHMS)
        except InvalidKeyIdError:  # the provider has changed its keys since
            token = await self._with_new_keys(text)
        except (JoseError, ValueError, TypeError) as error:
            raise _bad(f"its signature is not the provider's ({type(error).__name__})") from None
        asked = jwt.JWTClaimsRegistry(
            now=lambda: int(self._now()),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self.provider.issuer},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        claims: dict[str, Any] = token.claims
        try:
            asked.validate(claims)
        except JoseError as error:
            raise _bad(f"a claim is wrong ({error.error})") from None
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if not isinstance(audiences, list) or self.provider.client_id not in audiences:
            raise _bad("it was made for another application")
        if claims.get("azp", self.provider.client_id) != self.provider.client_id or (
            len(audiences) > 1 and "azp" not in claims
        ):
            raise _bad("it was made for another application")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _bad("it belongs to another login")
        return claims

    async def _with_new_keys(self, text: str) -> Any:
        from joserfc import jwt  # noqa: PLC0415  as above
        from joserfc.errors import JoseError  # noqa: PLC0415

        try:
            return jwt.decode(text, await self._known_keys(again=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError, TypeError) as error:
            raise _bad(f"its signature is not the provider's ({type(error).__name__})") from None

    async def _known_keys(self, *, again: bool = False) -> KeySet:
        from joserfc.errors import JoseError  # noqa: PLC0415  as above
        from joserfc.jwk import KeySet  # noqa: PLC0415

        age = time.monotonic() - self._keys_at
        if self._keys is None or age > KEYS_S or (again and age > ASK_AGAIN_S):
            said = await self._fetched(str(self._about["jwks_uri"]))
            try:
                self._keys = KeySet.import_key_set(said)  # type: ignore[arg-type]  # it is judged there
            except (JoseError, ValueError, TypeError, KeyError) as error:
                raise _failed(f"its keys cannot be read ({type(error).__name__})") from None
            self._keys_at = time.monotonic()
        return self._keys

    async def _fetched(self, address: str) -> JsonObject:
        import httpx  # noqa: PLC0415  as above

        try:
            async with (
                asyncio.timeout(EXCHANGE_S),
                httpx.AsyncClient() as client,
                client.stream("GET", address) as response,
            ):
                response.raise_for_status()
                content = b""
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > MOST_BYTES:
                        raise _failed("its answer is too large")
            found = json.loads(content)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            raise _failed(f"{urlsplit(address).netloc} does not answer as it should ({type(error).__name__})") from None
        if not isinstance(found, dict):
            raise _failed("its answer is no JSON object")
        return found

    def _client(self) -> Any:
        from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]  # noqa: PLC0415  as above

        client: httpx.AsyncClient = AsyncOAuth2Client(
            self.provider.client_id,
            self.provider.client_secret or None,
            scope="openid email profile",
            redirect_uri=self._redirect,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self.provider.client_secret else "none",
            timeout=EXCHANGE_S,
        )
        return client


def _bad(why: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"The login is not proved: {why}.", code="bad_identity", remedy="Begin the login again at /login."
    )


def _failed(why: str) -> NotAuthenticated:
    return NotAuthenticated(
        f"The identity provider failed: {why}.",
        code="provider_failed",
        remedy="Try again later, or log in with a token.",
    )
