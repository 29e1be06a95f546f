"""The limits are fields of every type of connection, wherever a connection comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft import manifest, source
from weft.catalogue import load
from weft.connections import Connections, Directory, Environment, File
from weft.errors import ConnectionUnusable, InvalidManifest
from weft.redaction import Redactor
from weft.registry import Registry
from weft.types import Json

KIND = "id: till\ntitle: Till\npurpose: A till.\nicon: cart\nfields:\n  - {name: %s, title: A, description: A., type: %s, widget: %s}\n"


def test_every_type_has_them(core_registry: Registry) -> None:
    """No manifest has to name them; those that count tokens have one more."""
    for kind in core_registry.connection_types():
        names = [field.name for field in kind.fields]
        assert {"concurrency", "requests_per_minute"} <= set(names)
        assert ("tokens_per_minute" in names) == (kind.id == "model_provider")
        own = set(manifest.LIMITS) & set(names)
        assert set(kind.environment) & set(manifest.LIMITS) == (own if kind.environment else set())


def test_a_type_may_say_more_of_its_own() -> None:
    """A field of the name that it declares itself takes the place of ours, and stands where it stood."""
    kind = manifest.load_connection_type(source.read(KIND % ("concurrency", "integer", "number"), "t.yaml"))
    assert [(field.name, field.title) for field in kind.fields] == [
        ("concurrency", "A"),
        ("requests_per_minute", "Requests per Minute"),
    ]
    assert kind.environment == {}


def test_a_limit_is_a_whole_number() -> None:
    """Another meaning of the name would be taken for a limit."""
    with pytest.raises(InvalidManifest) as caught:
        manifest.load_connection_type(source.read(KIND % ("requests_per_minute", "string", "text"), "t.yaml"))
    assert [problem.code for problem in caught.value.problems] == ["limit_type"]


def connections(registry: Registry, tmp_path: Path, **environ: str) -> Connections:
    types = {kind.id: kind for kind in registry.connection_types()}
    file = tmp_path / "connections.yaml"
    file.write_text("post: {type: smtp, host: mail.example.com, concurrency: 2, requests_per_minute: {env: MAILS}}\n")
    mounted = tmp_path / "secrets" / "chat"
    mounted.mkdir(parents=True)
    for name, text in {"type": "slack", "token": "xoxb-lab-lab-lab", "concurrency": "7\n"}.items():
        (mounted / name).write_text(text)
    catalogue = load()
    return Connections(
        [
            Environment(types, environ, catalogue),
            File(file, types, {"MAILS": "30"}, catalogue),
            Directory(tmp_path / "secrets", types, catalogue),
        ],
        Redactor(),
    )


def settings(known: Connections, name: str, type_: str) -> dict[str, Json]:
    facts = known.facts(name, type_)
    assert facts is not None
    return {key: value for key, value in facts.settings.items() if key in manifest.LIMITS}


def test_they_come_from_where_other_fields_come_from(core_registry: Registry, tmp_path: Path) -> None:
    """From variables, from a file, by its references, and from a mounted directory."""
    known = connections(core_registry, tmp_path, OPENAI_API_KEY="sk-lab", OPENAI_TOKENS_PER_MINUTE="9000")
    assert settings(known, "openai", "model_provider") == {"tokens_per_minute": 9000}
    assert settings(known, "post", "smtp") == {"concurrency": 2, "requests_per_minute": 30}
    assert settings(known, "chat", "slack") == {"concurrency": 7}


def test_limits_alone_make_no_connection(core_registry: Registry, tmp_path: Path) -> None:
    """A variable that only bounds must not hide a connection that is kept elsewhere."""
    known = connections(core_registry, tmp_path, OPENAI_CONCURRENCY="3", POST_CONCURRENCY="9")
    assert known.facts("openai", "model_provider") is None
    assert settings(known, "post", "smtp")["concurrency"] == 2


@pytest.mark.parametrize("text", ["0", "many", "1.5"])
async def test_what_is_no_limit_is_refused(core_registry: Registry, tmp_path: Path, text: str) -> None:
    """A limit that cannot be kept makes the connection unusable, rather than unlimited."""
    known = connections(core_registry, tmp_path, OPENAI_API_KEY="sk-lab", OPENAI_CONCURRENCY=text)
    with pytest.raises(ConnectionUnusable, match="concurrency"):
        await known.get("openai", "model_provider", lambda note: None)
