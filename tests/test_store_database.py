"""The store of connections in a database: one truth for all processes, and a key that never comes near it."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner

from weft.cli import connections as cli
from weft.cli.state import State
from weft.connections import Keys, store_at
from weft.connections.database import DatabaseStore
from weft.errors import ConnectionUnusable, InvalidConnections, NotFound, Problem, StateUnavailable, WeftError
from weft.redaction import Secret, forms
from weft.registry import Registry
from weft.runtime import Runtime

if TYPE_CHECKING:
    from servers.postgres import Postgres

CANARY = "canary-Zq7/+sX-0421"


def fresh_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


KEY = fresh_key()


@pytest.fixture
def address(postgres_server: Postgres) -> str:
    return postgres_server.database()


def store_of(address: str, key: str | None = KEY) -> DatabaseStore:
    """A store as another process would open it."""
    return DatabaseStore(address, Keys({} if key is None else {"WEFT_KEY": key}, Path("/nowhere")))


@pytest.fixture
def store(address: str) -> DatabaseStore:
    """A store with one connection in it."""
    made = store_of(address)
    made.write("mail", "smtp", {"host": "mail.example.com"}, {"password": Secret(CANARY)})
    return made


def raised(kind: type[WeftError], call: Callable[..., object], *given: object) -> Problem:
    with pytest.raises(kind) as error:
        call(*given)
    assert CANARY not in str(error.value)
    return error.value.problem


def change(address: str, statement: str) -> None:
    with psycopg.connect(address) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def test_what_one_process_writes_all_have(address: str, store: DatabaseStore) -> None:
    """Written, changed and removed by one, it is so for another that has looked before, within a moment."""
    other = store_of(address)
    assert other.opened("mail")[1] == {"password": Secret(CANARY)}
    assert [entry.name for entry in other.entries()] == ["mail"]
    store.write("mail", "smtp", {"host": "b.example.com"}, {"password": Secret("another-secret")})
    store.write("second", "smtp", {}, {})

    assert other.opened("mail")[1] == {"password": Secret("another-secret")}
    time.sleep(0.3)
    assert [(entry.name, entry.settings) for entry in other.entries()] == [
        ("mail", {"host": "b.example.com"}),
        ("second", {}),
    ]
    store.remove("mail")
    assert [entry.name for entry in store.entries()] == ["second"]
    assert raised(NotFound, other.opened, "mail").code == "unknown_connection"
    assert raised(NotFound, other.remove, "mail").code == "unknown_connection"


def test_no_form_of_a_secret_is_in_any_row(address: str, store: DatabaseStore) -> None:
    """Neither the value nor the key is anywhere in the tables."""
    with psycopg.connect(address) as connection:
        rows = [
            str(row)
            for table in ("weft_connections", "weft_connection_store")
            for row in connection.execute(f"SELECT * FROM {table}")  # type: ignore[arg-type]
        ]

    assert rows
    assert not [form for form in (*forms(CANARY), *forms(KEY)) if any(form in row for row in rows)]


def test_the_key_must_be_given(address: str, store: DatabaseStore) -> None:
    """A file that Weft makes on one machine would be no key for the others: without a key that was given nothing is sealed, opened or made."""
    without = store_of(address, None)
    for call in (lambda: without.opened("mail"), lambda: without.write("b", "smtp", {}, {}), without.rotate_key):
        problem = raised(ConnectionUnusable, call)
        assert problem.code == "missing_key"
        assert "openssl rand" in (problem.remedy or "")
    assert [entry.name for entry in without.entries()] == ["mail"]
    assert not (Path(os.environ["XDG_CONFIG_HOME"]) / "weft-keys").exists()


def test_a_file_that_is_named_is_as_good(address: str, store: DatabaseStore, tmp_path: Path) -> None:
    """A key may come as a mounted file; one that is not there is not made."""
    file = tmp_path / "given.key"
    mounted = DatabaseStore(address, Keys({"WEFT_KEY_FILE": str(file)}, Path("/nowhere")))
    assert raised(ConnectionUnusable, mounted.opened, "mail").code == "missing_key"
    assert not file.exists()

    file.touch(mode=0o600)
    file.write_text(KEY)
    assert mounted.opened("mail") == store.opened("mail")


def test_another_key_is_told_by_its_id(address: str, store: DatabaseStore) -> None:
    """The wrong key opens nothing and writes nothing; the message says which is expected."""
    wrong = store_of(address, fresh_key())
    for call in (lambda: wrong.opened("mail"), lambda: wrong.write("b", "smtp", {}, {}), wrong.rotate_key):
        problem = raised(ConnectionUnusable, call)
        assert problem.code == "wrong_key"
        assert "expected key id" in problem.message
    assert store.opened("mail")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE weft_connections SET settings = '{\"host\":\"evil.example.com\"}' WHERE name = 'mail'",
        "UPDATE weft_connections SET type = 'http' WHERE name = 'mail'",
        "UPDATE weft_connections SET secrets = (SELECT secrets FROM weft_connections WHERE name = 'b')",
        "UPDATE weft_connections SET secrets = replace(secrets, 'password', 'username') WHERE name = 'mail'",
    ],
)
def test_what_is_changed_without_the_key_is_not_opened(address: str, store: DatabaseStore, statement: str) -> None:
    """Rows exchanged, and hosts redirected in the database, make a secret unreadable instead of sending it elsewhere."""
    store.write("b", "smtp", {"host": "mail.example.com"}, {"password": Secret("another-secret")})
    change(address, statement)

    assert raised(InvalidConnections, store.opened, "mail").code == "changed_connection"
    assert store.opened("b")[1] == {"password": Secret("another-secret")}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE weft_connections SET settings = '[]'", "damaged_store"),
        ("UPDATE weft_connection_store SET key_check = 'AAAA'", "damaged_store"),
        ("UPDATE weft_connection_store SET id = '../../../x'", "damaged_store"),
        ("UPDATE weft_connection_store SET version = 2", "store_version"),
    ],
)
def test_damage_is_told(address: str, store: DatabaseStore, statement: str, code: str) -> None:
    """What cannot be what was written is not guessed at."""
    change(address, statement)

    assert raised(InvalidConnections, store.opened, "mail").code == code


def test_the_key_is_rotated(address: str, store: DatabaseStore) -> None:
    """Every process is given both, then the secrets go over in one transaction, then the old key is worth nothing."""
    new = fresh_key()
    assert raised(ConnectionUnusable, store.rotate_key).code == "same_key"
    both = store_of(address, f"{new},{KEY}")
    assert both.opened("mail")
    assert both.rotate_key()[2] == 1

    assert store_of(address, new).opened("mail")[1] == {"password": Secret(CANARY)}
    assert both.opened("mail")
    assert raised(ConnectionUnusable, store.opened, "mail").code == "wrong_key"


def test_many_begin_at_once(address: str) -> None:
    """Whoever writes first makes the store; no write is lost."""

    def write(who: int) -> None:
        store_of(address).write(f"c{who}", "smtp", {}, {"password": Secret(f"secret-of-{who}")})

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))

    found = store_of(address)
    assert {name: found.opened(name)[1]["password"].reveal() for name in (f"c{n}" for n in range(6))} == {
        f"c{n}": f"secret-of-{n}" for n in range(6)
    }


def test_a_database_that_is_away_is_told_or_remembered(store: DatabaseStore) -> None:
    """What was there a moment ago counts while the database does not answer; a secret is never opened from memory."""
    known = store.entries()
    store._database._address = "postgresql://127.0.0.1:1/x?connect_timeout=1"
    store._good_until = 0.0

    assert store.entries() == known
    raised(StateUnavailable, store.opened, "mail")
    raised(StateUnavailable, store_of("postgresql://127.0.0.1:1/x?connect_timeout=1").entries)


async def test_a_runtime_with_a_database_has_its_connections(
    address: str, store: DatabaseStore, tmp_path: Path, core_registry: Registry
) -> None:
    """What is in the home is not looked at; what is in the database opens like any other."""
    home = tmp_path / "home"
    store_at(home, {"WEFT_KEY": KEY}, None).write("local", "smtp", {}, {"password": Secret("another-secret")})
    async with Runtime(home, core_registry, environ={"WEFT_DATABASE_URL": address, "WEFT_KEY": KEY}) as runtime:
        listed = {each.facts.name for each in runtime.connections.listed()}
        opened = await runtime.connections.get("mail", "smtp")

    assert "mail" in listed
    assert "local" not in listed
    assert opened.secret("password") == Secret(CANARY)


def test_the_commands_work_on_the_database(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added, listed, shown and removed by `weft connections`; without WEFT_KEY adding says what is needed."""
    monkeypatch.setenv("WEFT_DATABASE_URL", address)
    monkeypatch.setenv("PW", "whsec_" + "A" * 32)

    def call(*words: str) -> str:
        found = CliRunner().invoke(cli.command, words, obj=State(home=tmp_path / "home"))
        return f"{found.output}{found.exception or ''}"

    add = ("add", "shop", "--type", "incoming_webhook", "--secret-from-env", "signing_secret=PW")
    assert "neither WEFT_KEY is set" in call(*add)
    monkeypatch.setenv("WEFT_KEY", KEY)
    assert "is kept in the store" in call(*add)
    assert "shop" in call("list")
    assert "A" * 32 not in call("show", "shop")
    assert "is removed" in call("remove", "shop", "--yes")
    assert store_of(address).entries() == []
