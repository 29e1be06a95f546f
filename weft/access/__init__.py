"""Who asks, what they may do, and what was done: sessions, API tokens, roles, an identity provider, the audit log."""

from weft.access.access import Access, Token
from weft.access.audit import Audit, Entry, Verified
from weft.access.identity import ROLES, SCOPES, Identity, Role, Scope

__all__ = ["ROLES", "SCOPES", "Access", "Audit", "Entry", "Identity", "Role", "Scope", "Token", "Verified"]
