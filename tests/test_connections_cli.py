"""`weft connections`: adding, listing, showing, testing and removing, and that no secret is ever printed."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from weft import manifest, packs, source
from weft.cli import asking
from weft.cli.connections import command
from weft.cli.exits import exit_code
from weft.cli.state import State
from weft.errors import WeftError
from weft.redaction import forms
from weft.registry import Pack, Registry

CANARY = "canary-Zq7/+sX-0421"
LAB = Path(__file__).parent / "lab"


ASKED = """
id: post
title: Post
purpose: A post office for tests.
icon: mail
fields:
  - {name: host, title: Host, description: The server., type: string, required: true, widget: text}
  - {name: port, title: Port, description: Its port., type: integer, maximum: 65535, widget: number}
  - {name: mode, title: Mode, description: How., type: string, default: safe, enum: [safe, fast], widget: select}
  - {name: user, title: User, description: Who., type: string, widget: text}
  - {name: password, title: Password, description: The word., type: string, secret: true, widget: password,
     visible_when: {parameter: mode, values: [safe, fast]}}
  - {name: speed, title: Speed, description: Of fast., type: number, widget: number,
     visible_when: {parameter: mode, values: [fast]}}
  - {name: hosts, title: Hosts, description: More., type: array, items: {type: string}, widget: list}
"""


@pytest.fixture(scope="module")
def registry():
    found = packs.discover([LAB])
    kind = manifest.load_connection_type(source.read(ASKED, "post.yaml"))
    found.add(Pack("asked", LAB, connection_types=(kind,)))
    return found


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, registry):
    """An empty directory to stand in, keys that lie in the test, and packs that were read once."""
    monkeypatch.setattr("weft.runtime.discover", lambda extra: registry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_KEY_FILE", str(tmp_path / "keys" / "key"))


class Told:
    """What a command printed, and how it ended."""

    def __init__(self, result):
        self.error = result.exception if isinstance(result.exception, WeftError) else None
        if result.exception and self.error is None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code = exit_code(self.error) if self.error else result.return_value or result.exit_code
        self.out = result.stdout
        self.all = result.output + (str(self.error) if self.error else "")
        assert [form for form in forms(CANARY) if form in self.all] == []

    @property
    def json(self):
        return json.loads(self.out)


def weft(*words, **given):
    """Call a command in this process; whatever it prints is searched for the canary."""
    return Told(CliRunner().invoke(command, [*words], obj=State(packs=(LAB,)), standalone_mode=False, **given))


def add_mail(monkeypatch, name="mail", *more):
    monkeypatch.setenv("PW", CANARY)
    words = ("--field", "host=127.0.0.1", "--field", "port=1", "--field", "tls=none", "--field", "username=robot")
    return weft("add", name, "--type", "smtp", *words, "--secret-from-env", "password=PW", *more)


def test_what_is_added_is_listed_shown_and_removed(monkeypatch):
    """One connection from its beginning to its end."""
    assert "'mail' is kept" in add_mail(monkeypatch).out
    assert "mail\tsmtp\t-\tstore\t\n" in weft("list").out
    shown = weft("show", "mail")
    assert re.search("^username +robot$", shown.out, re.MULTILINE)
    assert re.search("^password +••••••$", shown.out, re.MULTILINE)

    assert weft("show", "mail", "--json").json == {
        "name": "mail",
        "type": "smtp",
        "provider": None,
        "source": "store",
        "shadowed_by": None,
        "shadows": [],
        "settings": weft("show", "mail", "--json").json["settings"],
        "secrets": ["password"],
        "problems": [],
    }
    assert "is removed" in weft("remove", "mail", "--yes").out
    assert weft("show", "mail").error.problem.code == "unknown_connection"


def test_a_secret_is_read_from_standard_input():
    """Its last line end is taken off, it is not echoed, and the connection has it."""
    told = weft("add", "door", "--type", "account", "--secret-stdin", "token", input=f"{CANARY}\n")

    assert told.code == 0
    assert weft("show", "door", "--json").json["secrets"] == ["token"]


def test_a_secret_is_no_argument():
    """One that was given as an argument is refused, and not repeated."""
    told = weft("add", "door", "--type", "account", "--field", f"token={CANARY}")

    assert (told.error.problem.code, told.code) == ("secret_argument", 2)
    assert not Path("weft-home/connections.db").exists()


@pytest.mark.parametrize(
    "headers",
    [
        json.dumps({"X-Api-Key": CANARY}),
        json.dumps({"Authorization": CANARY}),
        '{"X-Mine": "Key sk-proj-a1B2a1B2a1B2a1B2a1B2a1B2"}',
    ],
)
def test_a_secret_is_not_kept_in_a_field_that_is_shown(headers):
    """A header that is named like a credential or looks like one is refused, and not repeated."""
    told = weft("add", "api", "--type", "http", "--field", f"headers={headers}")

    assert told.error.problem.code == "open_secret"
    assert "a1B2" not in told.all
    assert "connections types http" in told.error.problem.remedy
    assert weft("add", "api", "--type", "http", "--field", 'headers={"X-Max-Tokens": "task-force"}').code == 0


def test_credentials_that_are_announced_must_be_there():
    """`auth: bearer` without a token is no connection, without a terminal too."""
    error = weft("add", "api", "--type", "http", "--field", "auth=bearer").error

    assert error.problem.code == "missing_secret"
    assert "--secret-stdin token" in error.problem.remedy


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--type", "smpt"), "'smtp'"),
        ((), "--type"),
        (("--type", "account"), "'token'"),
        (("--type", "smtp", "--field", "hots=x"), "'host'"),
        (("--type", "smtp", "--field", "host=x", "--field", "port=many"), "port"),
        (("--type", "smtp", "--field", "host"), "FIELD="),
        (("--type", "account", "--secret-from-env", "token=NOT_SET"), "NOT_SET"),
    ],
)
def test_what_cannot_be_kept_says_why(words, part):
    """Unknown types, missing, unknown and wrong fields are told, and nothing is kept."""
    result = CliRunner().invoke(command, ["add", "x", *words], obj=State(packs=(LAB,)), standalone_mode=False)

    message = (
        result.exception.format_message() if hasattr(result.exception, "format_message") else str(result.exception)
    )
    assert part in message
    assert not Path("weft-home/connections.db").exists()


def test_a_name_that_is_none_is_refused():
    """With the name that comes nearest to it."""
    assert "'my_mail'" in weft("add", "My mail", "--type", "smtp").error.problem.remedy


def test_one_that_is_there_is_changed_only_on_purpose(monkeypatch):
    """With --replace what is not given stays, secrets too."""
    add_mail(monkeypatch)
    assert add_mail(monkeypatch).error.problem.code == "exists"

    assert weft("add", "mail", "--replace", "--field", "host=other.example.com").code == 0
    shown = weft("show", "mail", "--json").json
    assert (shown["settings"]["host"], shown["settings"]["username"]) == ("other.example.com", "robot")
    assert shown["secrets"] == ["password"]


def test_a_short_secret_is_warned_of(monkeypatch):
    """It is kept, but it cannot be masked in what others say."""
    monkeypatch.setenv("T", "k7")
    told = weft("add", "door", "--type", "account", "--secret-from-env", "token=T")

    assert "short_secret" in told.all
    assert "is kept" in told.out
    assert [p["code"] for p in weft("show", "door", "--json").json["problems"]] == ["short_secret"]


def test_one_that_is_not_used_is_told(monkeypatch):
    """When a source that comes first has the name, adding and listing say so."""
    monkeypatch.setenv("DOOR_TOKEN", CANARY)
    monkeypatch.setenv("T", "another-token")
    told = weft("add", "door", "--type", "account", "--secret-from-env", "token=T")
    assert "not used here as long as there is one from: environment" in told.out

    Path("workflows").mkdir()
    Path("workflows/w.yaml").write_text(
        "name: w\nsteps: [{id: a, uses: leak, connection: door, with: {where: nowhere}}]"
    )
    rows = [(each["source"], each["shadowed_by"]) for each in weft("list", "--json").json if each["name"] == "door"]
    assert rows == [("environment", None), ("store", "environment")]
    assert weft("show", "door", "--json").json["shadows"] == ["store"]
    assert "stands before the built-in" in add_mail(monkeypatch, "outbox").out


def test_removing_is_asked_for(monkeypatch):
    """A no keeps it; a name that is elsewhere or nowhere is told."""
    add_mail(monkeypatch)
    CliRunner().invoke(command, ["remove", "mail"], obj=State(packs=(LAB,)), input="n\n")
    assert "mail\tsmtp" in weft("list").out

    assert "'mail'" in weft("remove", "mial", "-y").error.problem.remedy
    assert "built in" in weft("remove", "outbox", "-y").error.problem.remedy


def test_the_key_is_rotated(monkeypatch):
    """The ids are told, the keys are not."""
    add_mail(monkeypatch)
    before = Path("keys/key").read_text().strip()
    told = weft("rotate-key")
    after = Path("keys/key").read_text().strip()

    assert "1 connection encrypted with the new key" in told.out
    assert before != after
    assert before not in told.all
    assert after not in told.all
    assert weft("show", "mail", "--json").json["problems"] == []


def test_a_key_that_does_not_fit_is_told_by_show(monkeypatch):
    """What needs no key is shown all the same."""
    add_mail(monkeypatch)
    Path("keys/key").unlink()
    told = weft("show", "mail", "--json")

    assert told.json["settings"]["username"] == "robot"
    assert [problem["code"] for problem in told.json["problems"]] == ["missing_key"]
    assert told.code == 4


def test_types_and_their_fields_are_listed():
    """With the variables that they may come from."""
    assert "account\tA token for tests." in weft("types").out
    assert "variable: {NAME}_TOKEN" in weft("types", "account").out
    assert weft("types", "account", "--json").json["fields"][0]["secret"] is True
    assert {"id": "account", "title": "Account", "purpose": "A token for tests."} in weft("types", "--json").json


def test_names_are_completed(monkeypatch):
    """Names of connections and of types."""
    add_mail(monkeypatch)
    state = State(packs=(LAB,))
    monkeypatch.setenv("_WEFT_COMPLETE", "bash_complete")
    found = {}
    for words, number in (("weft show ma", 2), ("weft types acc", 2)):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        result = CliRunner().invoke(command, [], obj=state, prog_name="weft", complete_var="_WEFT_COMPLETE")
        found[words] = result.stdout.split()

    assert found == {"weft show ma": ["plain,mail"], "weft types acc": ["plain,account"]}


# -- asking


def answered(monkeypatch, *words, answers):
    monkeypatch.setattr(asking, "possible", lambda: True)
    return weft(*words, input="".join(f"{answer}\n" for answer in answers))


def test_a_person_is_asked_for_what_is_needed(monkeypatch):
    """Type, then fields; a wrong answer is told and asked again, an empty one takes what is shown."""
    answers = ["post", "", "mail.example.com", "many", "2525", "", "robot", CANARY, "n"]
    told = answered(monkeypatch, "add", "office", answers=answers)

    assert "'host' (Host) is required" in told.all
    assert "'port' must be an integer" in told.all
    assert "Set more (hosts)?" in told.out
    shown = weft("show", "office", "--json").json
    assert shown["settings"] == {"host": "mail.example.com", "port": 2525, "user": "robot", "mode": "safe"}
    assert shown["secrets"] == ["password"]


def test_what_was_kept_is_shown_in_brackets_and_stays(monkeypatch):
    """An empty line leaves it as it is, a secret too; what only an answer makes possible is asked for after it."""
    answered(monkeypatch, "add", "office", answers=["post", "one.example.com", "", "", "", CANARY, "n"])
    again = ["", "25", "fast", "", "", "3", "y", "a, b"]
    told = answered(monkeypatch, "add", "office", "--replace", answers=again)

    assert "Host [one.example.com]" in told.out
    assert "Password [kept]" in told.out
    shown = weft("show", "office", "--json").json
    assert shown["settings"] == {"host": "one.example.com", "port": 25, "mode": "fast", "hosts": ["a", "b"], "speed": 3}
    assert shown["secrets"] == ["password"]


def test_the_kind_of_credentials_is_asked_for_and_then_they(monkeypatch):
    """What decides over other fields is asked for; the one secret that it brings cannot be left out."""
    answers = ["https://api.example.com", "bearer", "", CANARY, "", "", "", "", "n"]
    told = answered(monkeypatch, "add", "api", "--type", "http", answers=answers)

    assert "'token' (Token) is required" in told.all
    assert weft("show", "api", "--json").json["secrets"] == ["token"]
    words = ("--type", "http", "--field", "auth=bearer")
    assert answered(monkeypatch, "add", "other", *words, answers=[CANARY]).code == 0
    assert weft("show", "other", "--json").json["secrets"] == ["token"]


def test_only_what_is_missing_is_asked_for_beside_options(monkeypatch):
    """Who gives fields wants no form."""
    told = answered(monkeypatch, "add", "door", "--type", "account", "--field", "provider=p", answers=[CANARY])

    assert told.code == 0
    assert "Provider" not in told.out


def test_a_secret_is_typed_unseen(tmp_path):
    """On a real terminal the answer to a secret is not echoed."""
    main, ours = pty.openpty()
    code = (
        "from weft.cli import app; app.COMMANDS.setdefault('connections', '');"
        f"app.main(['connections', 'add', 'door', '--type', 'account', '--pack', {str(LAB)!r}])"
    )
    environ = {**os.environ, "TERM": "xterm", "PYTHONWARNINGS": "default"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=ours, stdout=ours, stderr=ours, env=environ, start_new_session=True
    )
    os.close(ours)
    try:
        seen = read_until(main, b"Token")
        time.sleep(0.2)  # the prompt stands; echo is off now
        os.write(main, f"{CANARY}\n".encode())
        seen += read_until(main, b"Provider:")
        os.write(main, b"lab\n")
        seen += read_until(main, b"is kept")
        process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(main)

    assert CANARY.encode() not in seen
    assert b"lab" in seen  # what is no secret is echoed: the search would find it


def read_until(terminal, part):
    seen, until = b"", time.monotonic() + 20
    while part not in seen and time.monotonic() < until:
        seen += os.read(terminal, 1000)
    assert part in seen, seen
    return seen


# -- testing


def test_a_test_says_what_failed(monkeypatch):
    """A server that is not there is a failure with a code; the command ends with 1."""
    add_mail(monkeypatch)
    (found,) = weft("test", "mail", "--json").json

    assert (found["name"], found["type"], found["provider"], found["source"]) == ("mail", "smtp", None, "store")
    assert (found["state"], found["code"]) == ("failed", "unreachable")
    assert weft("test", "mail").code == 1
    assert "✗ mail  failed" in weft("test").out


def test_what_has_no_test_is_told_as_such(monkeypatch):
    """That a connection's fields are complete does not mean that it works."""
    monkeypatch.setenv("DOOR_TOKEN", CANARY)
    told = weft("test", "door", "--type", "account")

    assert told.code == 0
    assert "door  not tested" in told.out
    assert "works" not in told.out


def test_the_built_in_outbox_works():
    """It is tested when it is named."""
    told = weft("test", "outbox")

    assert (told.code, "outbox  works" in told.out, "No mail was sent" in told.out) == (0, True, True)
    assert "no connections but the built-in" in weft("test").out
    assert weft("test", "--json").json == []


def test_a_connection_that_is_not_there_is_not_found():
    """The nearest name is told."""
    told = weft("test", "outbx")

    assert told.code == 4
    assert "'outbox'" in told.error.problem.remedy


def test_a_connection_whose_pack_is_gone_is_listed_and_removed(monkeypatch, registry):
    """It is told what is missing; nothing stands in the way of removing it."""
    add_mail(monkeypatch)
    monkeypatch.setattr("weft.runtime.discover", lambda extra: Registry())

    assert "mail\tsmtp" in weft("list").out
    assert weft("show", "mail").error.problem.code == "unknown_connection_type"
    assert weft("test", "mail", "--json").json[0]["code"] == "unknown_connection_type"
    assert weft("remove", "mail", "-y").code == 0
