"""What a workflow may declare of its webhooks, and what is told before a request ever comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from weft.connections import NamedEnvironment
from weft.errors import InvalidWorkflow, Problem
from weft.plan import Plan
from weft.registry import Registry
from weft.runtime import Runtime
from weft.workflow import Webhook

ENVIRON = {
    "SHOP_SIGNING_SECRET": "whsec_" + "A" * 32,
    "MAIL_HOST": "mail.example.com",
    "LIVE_SHOP_SIGNING_SECRET": "whsec_" + "B" * 32,
}


def compiled(
    directory: Path, registry: Registry, webhooks: str, *, environment: NamedEnvironment | None = None
) -> Plan:
    file = directory / "w.yaml"
    text = f"name: w\non: {{webhook: [{webhooks}]}}\nsteps: [{{id: a, uses: set_values, with: {{values: {{}}}}}}]\n"
    file.write_text(text, encoding="utf-8")
    return Runtime(directory / "home", registry, environ=ENVIRON, environment=environment).compile(file)


def problems(directory: Path, registry: Registry, webhooks: str) -> list[Problem]:
    try:
        return list(compiled(directory, registry, webhooks).warnings)
    except InvalidWorkflow as invalid:
        return list(invalid.problems)


@pytest.mark.parametrize(
    ("webhooks", "code", "place"),
    [
        ("{connection: nobody}", "unknown_signer", ("warning", 2, 29)),
        ("{connection: outbox}", "no_signing_secret", ("error", 2, 29)),
        ("{connection: shop}, {connection: shop, style: github}", "same_webhook", ("error", 2, 36)),
        ("{connection: shop}, {connection: shop, id: shop}", "same_webhook", ("error", 2, 36)),
        ("{connection: shop, inputs: {x: 1}}", "unknown_input", ("error", 2, 44)),
        ('{connection: shop, inputs: {x: "{{ steps.a.output }}"}}', "unknown_input", ("error", 2, 44)),
    ],
)
def test_a_fault_is_told_at_its_place(
    tmp_path: Path, core_registry: Registry, webhooks: str, code: str, place: tuple[str, int, int]
) -> None:
    """A connection that is not there or cannot sign, two webhooks of one name, inputs that there are none of."""
    found = next(each for each in problems(tmp_path, core_registry, webhooks) if each.code == code)

    assert (found.severity, found.where.line, found.where.column) == place
    assert found.where.step is None


def test_sound_webhooks_are_sound(tmp_path: Path, core_registry: Registry) -> None:
    """One connection may serve two webhooks that have names of their own."""
    text = "{connection: shop}, {connection: shop, id: second, style: stripe}"
    planned = compiled(tmp_path, core_registry, text)

    assert planned.warnings == ()
    assert [each.name for each in planned.workflow.on.webhook] == ["shop", "second"]


def test_a_workflow_is_run_by_hand_without_the_sender(tmp_path: Path, core_registry: Registry) -> None:
    """A webhook whose connection is missing keeps nobody from running the workflow otherwise."""
    planned = compiled(tmp_path, core_registry, "{connection: nobody}")

    Runtime(tmp_path / "home", core_registry, environ={}).refuse_unfit(planned)


def test_an_environment_changes_the_connection_and_not_the_name(tmp_path: Path, core_registry: Registry) -> None:
    """In `prod` another secret signs; the address, which belongs to the name, stays."""
    prod = NamedEnvironment(connections={"shop": "live-shop"})
    [webhook] = compiled(tmp_path, core_registry, "{connection: shop}", environment=prod).workflow.on.webhook

    assert (webhook.name, webhook.connection) == ("shop", "live-shop")


@pytest.mark.parametrize(
    "says",
    [
        {"timeout": "0s"},
        {"timeout": "301s"},
        {"window": "soon"},
        {"style": "plain"},
        {"headers": ["Authorization"]},
        {"headers": ["authorization"]},
        {"headers": ["set-cookie"]},
        {"headers": ["x-hub-signature-256"]},
        {"headers": ["x-gitlab-token"]},
        {"headers": ["x-api-key"]},
        {"headers": ["x shop"]},
    ],
)
def test_what_cannot_be_declared(says: dict[str, object]) -> None:
    """Times without end, unknown styles, and headers that carry secrets."""
    with pytest.raises(ValidationError):
        Webhook.model_validate({"connection": "shop", **says})
