"""Make what is shipped about Apprise's services, from Apprise itself: `python -m weft_core.actions._apprise_build`.

It writes `_apprise_services.json`, from which the action knows a service's module and fields, and the connection type
`apprise.yaml`, from which forms are drawn. Run it after a change of Apprise's version; a test compares.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
SERVICES: Final = HERE / "_apprise_services.json"
CONNECTION: Final = HERE.parent / "manifests" / "connections" / "apprise.yaml"
RENAMED: Final = {"type": "message_type"}  #: `type` is the connection's own
FIXED: Final = frozenset({"schema", "targets"})
NAMES_TOLD: Final = 3

Service = dict[str, Any]


def services() -> dict[str, Service]:
    """Return what Apprise tells of each service that may be used, by the name that connections give it."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415  only who makes the files needs it
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415

    details = Apprise(asset=AppriseAsset(language="en")).details(show_requirements=True, show_disabled=True)
    manager: Any = NotificationManager  # it is not typed
    manager = manager()
    found = (_service(entry, manager[_schemas(entry)[0]]) for entry in details["schemas"] if usable(entry))
    return dict(sorted((_name(service["title"]), service) for service in found))


def usable(entry: Mapping[str, Any]) -> bool:
    """Return whether a service goes through the network alone, with what is installed along with Apprise.

    A service that needs no word about where to send to speaks to this machine; a field or option that names a file
    reads one from it. AMQP needs one of two packages, which Apprise only recommends.
    """
    inner = entry["details"]
    names = {*inner["tokens"], *inner["args"]}
    return (
        "{schema}://" not in inner["templates"]
        and not any(name.endswith("file") and name != "profile" for name in names)
        and "amqp" not in _schemas(entry)
        and not entry["requirements"]["packages_required"]
    )


def _schemas(entry: Mapping[str, Any]) -> list[str]:
    return [*(entry["secure_protocols"] or ()), *(entry["protocols"] or ())]


def _service(entry: Mapping[str, Any], plugin: type) -> Service:
    fields = {
        RENAMED.get(name, name): {
            "title": str(token["name"]),
            "type": {"int": "integer", "list:string": "array"}.get(token["type"], "string"),
            "secret": bool(token["private"]),
            "to": str(token["map_to"]),
        }
        for name, token in sorted(entry["details"]["tokens"].items())
        if name not in FIXED and token["map_to"] != "targets"
    }
    return {
        "title": str(entry["service_name"]),
        "module": plugin.__module__.removeprefix("apprise.plugins."),
        "class": plugin.__name__,
        "schemas": _schemas(entry),
        "plain": entry["protocols"][0] if entry["secure_protocols"] and entry["protocols"] else None,
        "fields": fields,
    }


def _name(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def connection_type(known: Mapping[str, Service]) -> str:
    """Return the connection type as YAML: one field for each name that services use, shown for those alone."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for name, service in known.items():
        for field in service["fields"]:
            users[field].append(name)
    document = {
        "id": "apprise",
        "title": "Notification Service",
        "purpose": "An account with one of the services that Apprise knows, from Pushover to a text message.",
        "icon": "bell",
        "fields": [
            *_first(known),
            *(_field(field, names, known) for field, names in sorted(users.items())),
            *_last(known),
        ],
        "environment": {"url": ["{NAME}_URL"], "service": ["{NAME}_SERVICE"]},
    }
    head = "# Made by: python -m weft_core.actions._apprise_build\n"
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return head + text


def _first(known: Mapping[str, Service]) -> list[dict[str, Any]]:
    return [
        {
            "name": "service",
            "title": "Service",
            "description": "Which service it is. Its own fields follow; the options that they do not have need an address.",
            "type": "string",
            "enum": [*known],
            "excludes": ["url"],
            "widget": "combobox",
            "example": "pushover",
        },
        {
            "name": "url",
            "title": "Address",
            "description": (
                "The account as an address of Apprise's, for those who have one. It holds keys, so it is a secret as a"
                " whole."
            ),
            "type": "string",
            "secret": True,
            "widget": "password",
        },
        {
            "name": "targets",
            "title": "Recipients",
            "description": (
                "Who is told, as the service writes it: telephone numbers, names of channels with #, people with @,"
                " devices, topics."
            ),
            "type": "array",
            "items": {"type": "string"},
            "widget": "list",
            "example": ["+41790000000"],
        },
        {
            "name": "allowed_targets",
            "title": "Allowed Recipients",
            "description": "Whom else a step may name, each exactly so, or * for anybody. Left out, nobody else.",
            "type": "array",
            "items": {"type": "string"},
            "widget": "list",
            "example": ["#reports", "#alarms"],
        },
    ]


def _field(field: str, names: list[str], known: Mapping[str, Service]) -> dict[str, Any]:
    tokens = [known[name]["fields"][field] for name in names]
    titles = [known[name]["title"] for name in names]
    told = ", ".join(titles[:NAMES_TOLD]) + (" and others" if len(titles) > NAMES_TOLD else "")
    kind = Counter(token["type"] for token in tokens).most_common(1)[0][0]
    secret = any(token["secret"] for token in tokens)
    made: dict[str, Any] = {
        "name": field,
        "title": Counter(token["title"] for token in tokens).most_common(1)[0][0],
        "description": f"Asked for by {told}.",
        "type": "string" if secret else kind,
        "widget": "password" if secret else {"integer": "number", "array": "list"}.get(kind, "text"),
        "visible_when": {"parameter": "service", "values": [*names]},
    }
    if secret:
        made["secret"] = True
    if kind == "array":
        made["items"] = {"type": "string"}
    return made


def _last(known: Mapping[str, Service]) -> list[dict[str, Any]]:
    return [
        {
            "name": "tls",
            "title": "TLS",
            "description": "Whether a server of your own is spoken to over TLS. Without it, it must be in a private network.",
            "type": "boolean",
            "default": True,
            "widget": "switch",
            "visible_when": {
                "parameter": "service",
                "values": [name for name, service in known.items() if service["plain"]],
            },
        },
        {
            "name": "private_networks",
            "title": "Private Networks",
            "description": (
                "Networks, or single addresses, that are not public and may be connected to all the same. Left out, only"
                " public addresses are."
            ),
            "type": "array",
            "items": {"type": "string"},
            "widget": "list",
            "example": ["10.20.0.0/16"],
        },
        {
            "name": "ca_file",
            "title": "CA File",
            "description": "A file in PEM format with the only authorities to trust, for servers that are asked by HTTPS.",
            "type": "string",
            "min_length": 1,
            "widget": "text",
            "example": "/etc/ssl/company-ca.pem",
        },
        {
            "name": "request_timeout_s",
            "title": "Timeout",
            "description": "The longest that one notification may take, in seconds.",
            "type": "number",
            "default": 60,
            "minimum": 1,
            "maximum": 600,
            "widget": "number",
            "example": 60,
        },
    ]


def as_json(known: Mapping[str, Service]) -> str:
    """Return the data file: one line for each service."""
    kept = {
        name: {
            **{key: service[key] for key in ("title", "module", "class", "schemas", "plain")},
            "fields": {field: token["to"] for field, token in service["fields"].items()},
        }
        for name, service in known.items()
    }
    lines = (f"{json.dumps(name)}: {json.dumps(service, ensure_ascii=False)}" for name, service in kept.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write both files."""
    known = services()
    SERVICES.write_text(as_json(known), encoding="utf-8")
    CONNECTION.write_text(connection_type(known), encoding="utf-8")


if __name__ == "__main__":
    main()
