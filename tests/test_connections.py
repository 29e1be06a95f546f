"""Connections from the environment and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft import packs
from weft.connections import BuiltIn, Connections, Environment, File
from weft.errors import ConnectionUnusable, InvalidConnections, NotFound
from weft.plan import ConnectionFacts
from weft.redaction import MASK, Redactor, Secret
from weft.sdk import Connection

LAB = Path(__file__).parent / "lab"
TYPES = {kind.id: kind for kind in packs.read(LAB, "lab", packs.package_of(LAB)).connection_types}


def connections(*sources):
    return Connections(sources, Redactor())


def file_of(tmp_path, text, mode=0o600, environ=None):
    path = tmp_path / "connections.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return File(path, TYPES, environ or {})


async def test_variables_make_a_connection():
    """A connection's own variables give its fields; the provider is its name unless it is given."""
    found = await connections(Environment(TYPES, {"MY_LAB_TOKEN": "abcdef-123"})).get("my-lab", "account")

    assert found.secret("token") == Secret("abcdef-123")
    assert found.get("provider") == "my-lab"
    assert "abcdef" not in repr(found)


async def test_a_file_makes_connections_with_values_from_elsewhere(tmp_path):
    """A field may be given outright, by a variable or by a file beside."""
    (tmp_path / "token.txt").write_text("from-a-file-1\n", encoding="utf-8")
    source = file_of(
        tmp_path,
        "a: {type: account, token: outright-1}\n"
        "b: {type: account, token: {env: B}}\n"
        "c: {type: account, token: {file: token.txt}}\n",
        environ={"B": "from-a-variable-1"},
    )
    found = [(await connections(source).get(name, "account")).secret("token").reveal() for name in "abc"]

    assert found == ["outright-1", "from-a-variable-1", "from-a-file-1"]


async def test_the_environment_comes_before_the_file(tmp_path):
    """Sources are asked in order."""
    source = file_of(tmp_path, "a: {type: account, token: from-the-file}\n")
    both = connections(Environment(TYPES, {"A_TOKEN": "from-the-environment"}), source)

    assert (await both.get("a", "account")).secret("token").reveal() == "from-the-environment"
    assert both.facts("a", "account").source == "environment"


async def test_an_unknown_connection_names_the_nearest(tmp_path):
    """A missing connection says how to make one."""
    with pytest.raises(NotFound) as caught:
        await connections(file_of(tmp_path, "openai: {type: account, token: x1}\n")).get("opnai", "account")

    assert "openai" in caught.value.problem.remedy
    assert "OPNAI_" in caught.value.problem.remedy


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("- a\n", "not_a_mapping", 1),
        ("a: 1\n", "no_type", 1),
        ("a:\n  type: acount\n", "unknown_connection_type", 2),
    ],
)
def test_a_file_that_is_none_says_where(tmp_path, text, code, line):
    """Faults of the file have line and column."""
    with pytest.raises(InvalidConnections) as caught:
        file_of(tmp_path, text)

    assert caught.value.problem.code == code
    assert caught.value.problem.where.line == line


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: {type: account}\n", "token"),
        ("a: {type: account, token: [canary-1]}\n", "token"),
        ("a: {type: account, token: canary-1, tokn: x}\n", "tokn"),
        ("a: {type: account, token: ' canary-1'}\n", "token"),
    ],
)
async def test_a_field_that_does_not_fit_is_named_and_no_secret_shown(tmp_path, text, part):
    """Missing, unknown and wrong fields are named, without their values."""
    with pytest.raises(ConnectionUnusable) as caught:
        await connections(file_of(tmp_path, text)).get("a", "account")

    assert part in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("reference", ["{env: NOT_SET}", "{file: not-there.txt}"])
async def test_a_reference_to_nothing_says_where(tmp_path, reference):
    """An unset variable or a missing file is told with its place."""
    with pytest.raises(InvalidConnections) as caught:
        await connections(file_of(tmp_path, f"a:\n  type: account\n  token: {reference}\n")).get("a", "account")

    assert caught.value.problem.where.line == 3


def test_a_file_with_secrets_that_others_may_read_is_refused(tmp_path):
    """Literal secrets need a private file; references do not."""
    with pytest.raises(InvalidConnections) as caught:
        file_of(tmp_path, "a: {type: account, token: canary-1}\n", mode=0o644)
    assert "chmod 600" in caught.value.problem.remedy

    file_of(tmp_path, "a: {type: account, token: {env: A}}\n", mode=0o644)


async def test_a_connection_of_one_provider_never_serves_another(tmp_path):
    """A call to a provider gets a connection of that provider or none."""
    source = file_of(
        tmp_path,
        "one: {type: account, provider: first, token: key-of-first}\n"
        "two: {type: account, provider: second, token: key-of-second}\n",
    )
    both = connections(source)

    async def opened(provider, others=None):
        found = await both.open("one", "account", provider=provider, others=others or {}, note=lambda text: None)
        return found.name

    assert await opened("first") == "one"
    assert await opened(None) == "one"
    assert await opened("second") == "two"
    assert await opened("second", {"second": "two"}) == "two"
    for provider, others in (("third", {}), ("second", {"second": "one"})):
        with pytest.raises(ConnectionUnusable):
            await opened(provider, others)


async def test_two_connections_of_a_provider_must_be_told_apart(tmp_path):
    """With several to choose from, none is chosen."""
    source = file_of(
        tmp_path,
        "one: {type: account, provider: first, token: aaaaaa}\n"
        "two: {type: account, provider: second, token: bbbbbb}\n"
        "three: {type: account, provider: second, token: cccccc}\n",
    )
    with pytest.raises(ConnectionUnusable) as caught:
        await connections(source).open("one", "account", provider="second", others={}, note=lambda text: None)

    assert "three, two" in str(caught.value)


async def test_every_opened_secret_is_known_to_the_redactor(tmp_path):
    """Before anybody sees a connection, its secrets are watched for."""
    redactor = Redactor()

    async def opener():
        return Connection("mine", "account", {"token": Secret("built-in-secret")})

    built_in = BuiltIn({"mine": (ConnectionFacts("mine", "account", "built in"), opener)})
    everything = Connections([Environment(TYPES, {"A_TOKEN": "from-the-environment"}), built_in], redactor)
    notes = []
    await everything.get("a", "account")
    await everything.get("mine", "account", notes.append)

    assert redactor.text("from-the-environment built-in-secret") == f"{MASK} {MASK}"
    assert notes == ["starting mine"]


async def test_connections_by_provider_are_enough(tmp_path):
    """A step that names connections by provider alone takes the provider's, or the only one there is of it."""
    source = file_of(
        tmp_path,
        "one: {type: account, provider: first, token: aaaaaa}\n"
        "two: {type: account, provider: second, token: bbbbbb}\n"
        "other: {type: account, provider: first, token: cccccc}\n",
    )
    opened = connections(source).open

    async def name_of(provider, others):
        return (await opened(None, "account", provider=provider, others=others, note=lambda text: None)).name

    assert await name_of("first", {"first": "one"}) == "one"
    assert await name_of("second", {"first": "one"}) == "two"
    for provider, others in (("first", {}), ("first", {"first": "two"}), (None, {"first": "one"}), ("third", {})):
        with pytest.raises(ConnectionUnusable):
            await name_of(provider, others)


@pytest.mark.parametrize("content", [b"canary-9 " * 10_000, b"canary-9 \xff\xfe", None])
async def test_a_file_that_holds_no_usable_secret_is_refused_whole(tmp_path, content):
    """Too large, no text or not there: nothing of it is taken, and no error carries it along."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    source = file_of(tmp_path, "a: {type: account, token: {file: token}}\n")
    with pytest.raises(InvalidConnections) as caught:
        await connections(source).get("a", "account")

    error = caught.value
    assert error.problem.code == "unreadable_file"
    while error is not None:
        assert "canary" not in repr(error)
        error = error.__cause__ or error.__context__
