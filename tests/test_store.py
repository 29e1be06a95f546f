"""The encrypted store of connections: what is in its file, its keys, and what it says when one of them is wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import secrets
import sqlite3
import stat

import pytest

from weft.connections import Keys, Store
from weft.connections import keys as keeping
from weft.connections import store as storing
from weft.errors import ConnectionUnusable, InvalidConnections, NotFound, WeftError
from weft.redaction import Secret, forms

CANARY = "canary-Zq7/+sX-0421"


def fresh_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


def store_of(tmp_path, **environ):
    environ.setdefault("WEFT_KEY_FILE", str(tmp_path / "keys" / "store.key"))
    home = tmp_path / "home"
    return Store(home / "connections.db", Keys(environ, home))


@pytest.fixture
def store(tmp_path):
    """A store with one connection in it."""
    made = store_of(tmp_path)
    made.write("mail", "smtp", {"host": "mail.example.com"}, {"password": Secret(CANARY)})
    return made


def rows(store, query, *values):
    with sqlite3.connect(store.file) as database:
        found = database.execute(query, values).fetchall()
    database.close()
    return found


def raised(kind, call, *given):
    with pytest.raises(kind) as caught:
        call(*given)
    assert CANARY not in str(caught.value)
    return caught.value.problem


def test_what_is_written_is_read_again(tmp_path, store):
    """Settings and secrets come back, in another process too; settings need no key."""
    again = store_of(tmp_path)
    entry, opened = again.opened("mail")

    assert (entry.type, entry.settings, entry.secrets) == ("smtp", {"host": "mail.example.com"}, {"password"})
    assert opened == {"password": Secret(CANARY)}
    without_key = store_of(tmp_path, WEFT_KEY_FILE=str(tmp_path / "elsewhere.key"))
    assert [each.name for each in without_key.entries()] == ["mail"]


def test_no_form_of_a_secret_is_in_any_file(tmp_path, store):
    """Neither the database nor the key file holds a secret in any spelling."""
    store.write("mail", "smtp", {"host": "other.example.com"}, {"password": Secret(CANARY)})
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    assert b"other.example.com" in content
    assert [form for form in forms(CANARY) if form.encode() in content] == []


def test_files_are_the_users_alone(tmp_path, store):
    """Database and key are 0600, and the key does not lie in the database's directory."""
    key = tmp_path / "keys" / "store.key"

    assert [stat.S_IMODE(file.stat().st_mode) for file in (store.file, key)] == [0o600, 0o600]
    assert not key.is_relative_to(store.file.parent)
    assert list(store.file.parent.iterdir()) == [store.file]  # nothing is left beside it


def test_the_usual_key_file_is_in_the_users_configuration(tmp_path, monkeypatch):
    """Without WEFT_KEY and WEFT_KEY_FILE each store has a key file of its own there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    store = Store(tmp_path / "home" / "connections.db", Keys({}, tmp_path / "home"))
    store.write("mail", "smtp", {}, {"password": Secret(CANARY)})

    (key,) = (path for path in tmp_path.rglob("*.key"))
    assert not key.is_relative_to(tmp_path / "home")
    assert key.stem == rows(store, "SELECT id FROM weft_store")[0][0]


def test_a_key_beside_the_store_is_refused(tmp_path):
    """Whoever takes the directory must not have both."""
    store = store_of(tmp_path, WEFT_KEY_FILE=str(tmp_path / "home" / "store.key"))

    assert raised(ConnectionUnusable, store.write, "a", "smtp", {}, {}).code == "key_beside_store"
    assert not store.file.exists()


def test_a_key_that_others_may_read_is_refused(tmp_path, store):
    """The remedy says how to close it."""
    (tmp_path / "keys" / "store.key").chmod(0o640)
    problem = raised(ConnectionUnusable, store.opened, "mail")

    assert problem.code == "open_key"
    assert "chmod 600" in problem.remedy


@pytest.mark.parametrize(
    "key", [",", "short", base64.b64encode(b"x" * 31).decode(), "é" * 44, base64.b64encode(b"x" * 64).decode()]
)
def test_what_is_no_key_is_refused_and_not_shown(tmp_path, key):
    """A key is 32 bytes in base64; a bad one is not repeated."""
    problem = raised(ConnectionUnusable, store_of(tmp_path, WEFT_KEY=key).write, "a", "smtp", {}, {})

    assert problem.code == "bad_key"
    assert len(key) == 1 or key not in problem.message


def test_an_empty_key_file_is_no_key(tmp_path):
    """It is told as one that holds none, and left as it is."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "store.key").touch(0o600)

    assert raised(ConnectionUnusable, store_of(tmp_path).write, "a", "smtp", {}, {}).code == "bad_key"


def test_a_key_that_does_not_fit_is_told_by_ids(tmp_path):
    """The message names the id that is expected and the one that is here."""
    right, wrong = fresh_key(), fresh_key()
    store_of(tmp_path, WEFT_KEY=right).write("mail", "smtp", {}, {"password": Secret(CANARY)})
    ((expected,),) = rows(store_of(tmp_path), "SELECT key_id FROM weft_store")
    store = store_of(tmp_path, WEFT_KEY=wrong)

    for call in (lambda: store.opened("mail"), lambda: store.write("b", "smtp", {}, {}), store.rotate_key):
        problem = raised(ConnectionUnusable, call)
        assert problem.code == "wrong_key"
        assert f"does not fit this store; expected key id {expected}, got" in problem.message
        assert wrong not in str(problem)
    assert store_of(tmp_path, WEFT_KEY=right.replace("+", "-").replace("/", "_").rstrip("=")).opened("mail")


def test_a_missing_key_is_told(tmp_path, store):
    """Without its key file the store names the file and the id."""
    (tmp_path / "keys" / "store.key").unlink()
    problem = raised(ConnectionUnusable, store.opened, "mail")

    assert problem.code == "missing_key"
    assert "store.key" in problem.message


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE weft_connections SET settings = '{\"host\":\"evil.example.com\"}' WHERE name = 'mail'",
        "UPDATE weft_connections SET type = 'http' WHERE name = 'mail'",
        "UPDATE weft_connections SET secrets = (SELECT secrets FROM weft_connections WHERE name = 'b') WHERE name = 'mail'",
        "UPDATE weft_connections SET secrets = replace(secrets, 'password', 'token') WHERE name = 'mail'",
        "UPDATE weft_connections SET key_id = 'x' WHERE name = 'mail'",
        "UPDATE weft_connections SET secrets = '{\"password\": \"AAAA\"}' WHERE name = 'mail'",
        "UPDATE weft_connections SET secrets = '{\"password\": 7}' WHERE name = 'mail'",
    ],
)
def test_what_is_changed_without_the_key_is_not_opened(store, change):
    """A secret opens only as what it was sealed as: a host redirected in the file gets no password."""
    store.write("b", "smtp", {"host": "mail.example.com"}, {"password": Secret("another-secret")})
    rows(store, change)

    problem = raised(InvalidConnections, store.opened, "mail")
    assert problem.code == "changed_connection"
    assert store.opened("b")
    raised(InvalidConnections, store.rotate_key)
    assert problem.remedy.endswith(": weft connections remove mail")
    store.remove("mail")
    store.rotate_key()
    store.write("mail", "smtp", {}, {"password": Secret(CANARY)})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE weft_connections SET settings = '[]'",
        "UPDATE weft_connections SET settings = '7'",
        "UPDATE weft_connections SET secrets = '[\"password\"]'",
        "UPDATE weft_connections SET secrets = 'null'",
        "UPDATE weft_connections SET type = x'00'",
        "UPDATE weft_connections SET changed_at = 'once'",
        "UPDATE weft_store SET id = '../../../x'",
        "UPDATE weft_store SET id = x'00'",
        "UPDATE weft_store SET key_id = x'00'",
        "UPDATE weft_store SET key_check = x'00'",
    ],
)
def test_values_of_another_shape_are_damage(store, change):
    """Whatever was written into the file is told as damage; an id never leads to a file elsewhere."""
    rows(store, change)

    for call in (store.entries, lambda: store.opened("mail"), store.rotate_key):
        assert raised(InvalidConnections, call).code == "damaged_store"


def test_the_key_check_value_is_checked(store):
    """A store whose check value was changed is not trusted."""
    rows(store, "UPDATE weft_store SET key_check = 'AAAA'")

    assert raised(InvalidConnections, store.opened, "mail").code == "damaged_store"


def test_the_key_is_rotated(tmp_path, store):
    """Every secret is sealed anew, the old key opens nothing and is gone, and no old ciphertext is left in the file."""
    before = (tmp_path / "keys" / "store.key").read_text()
    ((sealed,),) = rows(store, "SELECT secrets FROM weft_connections")
    old, new, count = store.rotate_key()

    assert (count, old != new) == (1, True)
    assert store.opened("mail")[1] == {"password": Secret(CANARY)}
    assert before.strip() not in (tmp_path / "keys" / "store.key").read_text()
    assert json.loads(sealed)["password"].encode() not in store.file.read_bytes()
    assert raised(ConnectionUnusable, store_of(tmp_path, WEFT_KEY=before).opened, "mail").code == "wrong_key"


@pytest.mark.parametrize("moment", ["before the database", "after the database"])
def test_a_rotation_that_is_cut_off_loses_nothing(tmp_path, store, monkeypatch, moment):
    """Old and new key are both in the file until the database has gone over; the next rotation tidies up."""
    keep, calls = Keys.keep, []

    def cut(self, *given):
        calls.append(given)
        if (moment == "after the database") == (len(calls) == 2):
            if moment == "before the database":
                keep(self, *given)
            raise KeyboardInterrupt
        keep(self, *given)

    monkeypatch.setattr(Keys, "keep", cut)
    with pytest.raises(KeyboardInterrupt):
        store.rotate_key()
    monkeypatch.undo()

    assert store.opened("mail")[1] == {"password": Secret(CANARY)}
    assert len((tmp_path / "keys" / "store.key").read_text().split()) == 2
    store.rotate_key()
    assert store.opened("mail")[1] == {"password": Secret(CANARY)}
    assert len((tmp_path / "keys" / "store.key").read_text().split()) == 1


def test_a_rotation_between_the_halves_of_another_keeps_its_key(tmp_path, store, monkeypatch):
    """The old key is taken out only when the store still uses the key of this rotation."""
    usual, others = Store._changing, []

    @contextlib.contextmanager
    def interrupted(self):
        with usual(self) as held:
            yield held
        if self is store and not others:
            others.append(store_of(tmp_path).rotate_key())

    monkeypatch.setattr(Store, "_changing", interrupted)
    _, ours, _ = store.rotate_key()

    assert others[0][0] == ours
    assert store_of(tmp_path).opened("mail")[1] == {"password": Secret(CANARY)}


def test_a_key_from_the_variable_is_rotated_by_putting_a_new_one_first(tmp_path):
    """WEFT_KEY holds both for the time being; one alone is not rotated."""
    old, new = fresh_key(), fresh_key()
    store_of(tmp_path, WEFT_KEY=old).write("mail", "smtp", {}, {"password": Secret(CANARY)})
    assert raised(ConnectionUnusable, store_of(tmp_path, WEFT_KEY=old).rotate_key).code == "same_key"

    both = store_of(tmp_path, WEFT_KEY=f"{new},{old}")
    assert both.opened("mail")
    both.rotate_key()
    assert store_of(tmp_path, WEFT_KEY=new).opened("mail")[1] == {"password": Secret(CANARY)}
    assert not (tmp_path / "keys").exists()


def test_names_that_are_not_there_are_told(tmp_path, store):
    """Opening, removing and rotating say so; an empty home is no fault."""
    for call in (lambda: store.opened("x"), lambda: store.remove("x")):
        assert raised(NotFound, call).code == "unknown_connection"
    empty = store_of(tmp_path / "b")
    assert empty.entries() == []
    for call in (lambda: empty.opened("x"), lambda: empty.remove("x"), empty.rotate_key):
        raised(NotFound, call)
    assert not (tmp_path / "b").exists()


def test_a_removed_connection_leaves_nothing(store):
    """Its ciphertext is overwritten in the file."""
    ((sealed,),) = rows(store, "SELECT secrets FROM weft_connections")
    store.remove("mail")

    assert store.entries() == []
    assert json.loads(sealed)["password"].encode() not in store.file.read_bytes()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "overwritten", "other tables"])
def test_a_damaged_store_is_told_and_left_as_it_is(store, damage):
    """Nothing is written over a file that cannot be read, by no command."""
    content = store.file.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"this is not a database\n" * 10,
        "cut": content[:5000],
        "overwritten": content[:4096] + os.urandom(len(content) - 4096),
        "other tables": content,
    }[damage]
    store.file.write_bytes(damaged)
    if damage == "other tables":
        rows(store, "DROP TABLE weft_store")
        damaged = store.file.read_bytes()

    for call in (
        store.entries,
        lambda: store.opened("mail"),
        lambda: store.write("b", "smtp", {}, {}),
        lambda: store.remove("mail"),
        store.rotate_key,
    ):
        problem = raised(InvalidConnections, call)
        assert problem.code == "damaged_store"
        assert "backup" in problem.remedy
    assert store.file.read_bytes() == damaged


def test_a_store_of_a_later_version_is_refused(store):
    """A format that this version does not know is not guessed at."""
    rows(store, "UPDATE weft_store SET version = 2")

    assert raised(InvalidConnections, store.entries).code == "store_version"


def test_another_process_that_writes_is_waited_for_and_then_told(store, monkeypatch):
    """A lock that stays is an error that says so; nothing is lost."""
    monkeypatch.setattr(storing, "PATIENCE_S", 0.1)
    other = sqlite3.connect(store.file)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert raised(ConnectionUnusable, store.write, "b", "smtp", {}, {}).code == "store_busy"
    finally:
        other.close()

    store.write("b", "smtp", {}, {})


def write_some(directory, who):
    store = Store(directory / "home" / "connections.db", Keys({"WEFT_KEY": "A" * 43 + "="}, directory / "home"))
    for number in range(5):
        store.write(f"{who}{number}", "smtp", {"host": who}, {"password": Secret(f"secret-of-{who}-{number}")})


def test_two_processes_write_one_store(tmp_path):
    """Both begin without a store; whoever is faster makes it, and no write is lost."""
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=write_some, args=(tmp_path, who)) for who in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(30)

    store = store_of(tmp_path, WEFT_KEY="A" * 43 + "=")
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(entry.name for entry in store.entries()) == sorted(f"{who}{n}" for who in "ab" for n in range(5))
    assert store.opened("b4")[1] == {"password": Secret("secret-of-b-4")}


@pytest.mark.parametrize("moment", ["seal", "new_key"])
def test_a_store_that_appears_meanwhile_is_taken(tmp_path, monkeypatch, moment):
    """Whoever is slower in making store or key takes what is there; neither write is lost."""
    ours, theirs = store_of(tmp_path), store_of(tmp_path)
    module = storing if moment == "seal" else keeping
    usual = getattr(module, moment)

    def meanwhile(*given):
        monkeypatch.setattr(module, moment, usual)
        theirs.write("b", "smtp", {}, {"password": Secret("secret-of-b")})
        return usual(*given)

    monkeypatch.setattr(module, moment, meanwhile)
    ours.write("a", "smtp", {}, {"password": Secret("secret-of-a")})

    opened = {name: store_of(tmp_path).opened(name)[1]["password"].reveal() for name in "ab"}
    assert opened == {"a": "secret-of-a", "b": "secret-of-b"}
    assert list(ours.file.parent.iterdir()) == [ours.file]
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["store.key"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Temporary files of an hour ago go with the next write; newer ones may be somebody's, others are not ours."""
    keys, home = tmp_path / "keys", tmp_path / "home"
    old = [keys / ".store.key-a", home / ".connections.db-a", home / ".connections.db-a-journal"]
    kept = [keys / ".store.key-b", home / ".connections.db-b", home / "other", keys / "other"]
    for file in old + kept:
        file.parent.mkdir(exist_ok=True)
        file.touch()
        if file in old or file.name == "other":
            os.utime(file, (0, 0))
    store_of(tmp_path).write("mail", "smtp", {}, {"password": Secret(CANARY)})

    assert [file for file in old if file.exists()] == []
    assert [file for file in kept if not file.exists()] == []


def test_a_failed_write_changes_nothing(store, monkeypatch):
    """A fault in the middle of a change leaves the store as it was."""
    monkeypatch.setattr(storing, "_put", lambda *given: (_ for _ in ()).throw(WeftError("no")))
    with pytest.raises(WeftError):
        store.write("mail", "smtp", {}, {})
    monkeypatch.undo()

    assert store.opened("mail")[1] == {"password": Secret(CANARY)}
