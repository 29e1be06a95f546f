"""The fields of providers' connections: which there are is LiteLLM's knowledge, the words are ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from weft.types import JsonObject

COMMON: Final = ("api_key", "api_base", "api_version", "organization")
"""Fields that every connection of a provider has; the type of connection declares them."""

SAME: Final = {
    "azure_text": "azure",
    "sagemaker": "bedrock",
    "sagemaker_chat": "bedrock",
    "sagemaker_nova": "bedrock",
    "vertex_ai_beta": "vertex_ai",
    "watsonx_text": "watsonx",
}
"""Providers whose accounts are those of another one, though LiteLLM's form has fewer fields for them."""

_ONLY: Final = {"aws_bedrock_runtime_endpoint": ("bedrock", "bedrock_mantle")}
"""Fields that mean nothing to some who share an account."""


def _text(title: str, description: str, example: str) -> JsonObject:
    field: JsonObject = {"title": title, "description": description, "type": "string", "min_length": 1}
    return {**field, "widget": "text", "placeholder": example, "example": example}


def _secret(title: str, description: str, *, lines: bool = False) -> JsonObject:
    widget = "multiline" if lines else "password"
    return {"title": title, "description": description, "type": "string", "secret": True, "widget": widget}


FIELDS: Final[Mapping[str, JsonObject]] = {
    "aws_access_key_id": _secret(
        "Access Key ID", "The public half of an AWS access key; it belongs to the secret key."
    ),
    "aws_secret_access_key": _secret("Secret Access Key", "The secret half of an AWS access key."),
    "aws_session_token": _secret(
        "Session Token", "The third part of temporary AWS credentials. Lasting ones have none."
    ),
    "aws_region_name": _text("Region", "The AWS region whose models are used.", "eu-central-1"),
    "aws_profile_name": _text(
        "Profile", "A profile of the AWS files on the machine that runs workflows, instead of keys.", "models"
    ),
    "aws_role_name": _text(
        "Role", "The ARN of an AWS role to take on for the requests.", "arn:aws:iam::123456789012:role/models"
    ),
    "aws_session_name": _text("Session Name", "How AWS logs call the session of a role that is taken on.", "weft"),
    "aws_web_identity_token": _secret(
        "Web Identity Token", "A token of OpenID Connect that AWS exchanges for the role's credentials."
    ),
    "aws_bedrock_runtime_endpoint": {
        **_text("Runtime Endpoint", "The address of Bedrock inside your own network.", "https://bedrock.example.com"),
        "widget": "url",
    },
    "azure_ad_token": _secret("Entra ID Token", "A token of Microsoft Entra ID, instead of an API key."),
    "tenant_id": _text(
        "Tenant ID",
        "The Entra ID directory of a service principal. Tenant, client and secret together replace the API key.",
        "00000000-0000-0000-0000-000000000000",
    ),
    "client_id": _text("Client ID", "The service principal's own id.", "00000000-0000-0000-0000-000000000000"),
    "client_secret": _secret("Client Secret", "The service principal's secret."),
    "base_model": _text(
        "Base Model",
        "The model behind a deployment whose name does not tell it; its parameters, limits and prices then hold.",
        "gpt-4o",
    ),
    "gigachat_access_token": _secret("Access Token", "A token that was issued already, instead of the API key."),
    "gigachat_auth_url": {
        **_text("Token Address", "Where the API key is exchanged for a token.", "https://auth.example.com/oauth"),
        "widget": "url",
    },
    "gigachat_scope": {
        "title": "Scope",
        "description": "For whom the account was opened: a person, a business that pays ahead, or one that is billed.",
        "type": "string",
        "enum": ["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"],
        "widget": "select",
        "example": "GIGACHAT_API_PERS",
    },
    "oci_user": _text("User", "The OCID of the user whose key signs the requests.", "ocid1.user.oc1..example"),
    "oci_tenancy": _text("Tenancy", "The OCID of the tenancy.", "ocid1.tenancy.oc1..example"),
    "oci_compartment_id": _text(
        "Compartment", "The OCID of the compartment that may use the models.", "ocid1.compartment.oc1..example"
    ),
    "oci_fingerprint": _text("Fingerprint", "The fingerprint of the signing key.", "12:34:56:78:90:ab:cd:ef"),
    "oci_region": _text("Region", "The region whose models are used.", "eu-frankfurt-1"),
    "oci_key": _secret(
        "Signing Key", "The whole private key in PEM form, its first and last line included.", lines=True
    ),
    "project_id": _text("Project ID", "The watsonx.ai project that pays; or give a deployment space.", "my-project"),
    "space_id": _text("Space ID", "The deployment space that pays; or give a project.", "my-space"),
    "token": _secret("IAM Token", "A bearer token that was issued already, instead of the API key."),
    "zen_api_key": _secret("Zen API Key", "The key of a Cloud Pak for Data of your own, instead of the API key."),
    "vertex_project": _text("Project", "The Google Cloud project that pays.", "my-project"),
    "vertex_location": _text("Location", "The region whose models are used, or global.", "europe-west1"),
    "vertex_credentials": _secret("Service Account", "The JSON key of a service account, the whole file.", lines=True),
}
"""Keyword of `acompletion` → what our form and documentation say of it."""


def further(provider: str, forms: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, bool]:
    """Return the fields that a provider's connections have besides the common ones, and whether each is required."""
    form = forms.get(SAME.get(provider, provider), ())
    return {
        field["key"]: bool(field["required"])
        for field in form
        if field["key"] not in COMMON and provider in _ONLY.get(field["key"], (provider,))
    }


def required(
    provider: str, forms: Mapping[str, Iterable[Mapping[str, Any]]], base: str | None, *, keyless: bool
) -> list[str]:
    """Return the common fields without which a provider cannot be used.

    LiteLLM's form marks a base as required where LiteLLM itself has a default, and a key as optional because the
    environment may have it; our connections are complete without an environment.
    """
    form = {field["key"]: field["required"] for field in forms.get(SAME.get(provider, provider), ())}
    found = [] if keyless or any(further(provider, forms)) else ["api_key"]
    if base is None and provider not in _DEFAULT_BASE and (form.get("api_base") or provider in _OWN_BASE):
        found.append("api_base")
    return found


_DEFAULT_BASE: Final = ("openai", "text-completion-openai")
_OWN_BASE: Final = frozenset(
    "a2a aiohttp_openai azure_text custom custom_openai databricks gdc hosted_vllm langflow langgraph litellm_proxy oobabooga ragflow triton vllm".split()  # noqa: SIM905
)
"""Providers that nobody runs but oneself, or each account under another address."""
