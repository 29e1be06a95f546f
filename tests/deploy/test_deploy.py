"""The files for containers and systemd pass their linters, and say what the code needs."""

from __future__ import annotations

import http.server
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from weft.cli.app import weft
from weft.cli.state import State
from weft.connections import Keys
from weft.errors import ConnectionUnusable
from weft.worker import GRACE_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def checked(*words: str | Path) -> str:
    """Run a linter and return what it says; it must be content."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def lines_of(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def read_by_click(words: list[str]) -> None:
    """Let our own parser read a command; nothing is run."""
    command = weft.get_command(click.Context(weft), words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=click.Context(weft, info_name="weft", obj=State()))


def test_the_container_file_passes_hadolint() -> None:
    """Without any rule switched off."""
    assert checked(BIN / "hadolint", "--no-color", DEPLOY / "Containerfile") == ""
    assert "hadolint ignore" not in CONTAINERFILE


def test_the_container_installs_what_is_locked_and_runs_as_nobody_special() -> None:
    """Everything by its hash, none from elsewhere, under a user of its own."""
    installs = re.findall(r"pip install (.*)", CONTAINERFILE)
    assert installs == [
        "--no-cache-dir --require-hashes --requirement requirements/run.txt",
        "--no-cache-dir --no-build-isolation --no-deps .",
    ]
    assert re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE) == ["python:3.13-slim"] * 2
    assert re.search(r"^USER 10001:10001$", CONTAINERFILE, re.MULTILINE)


def test_the_container_gets_all_that_the_build_needs() -> None:
    """What is copied is there, and is not kept out by the list beside the file."""
    let_in = set(re.findall(r"^!(\S+)$", (DEPLOY / "Containerfile.dockerignore").read_text(), re.MULTILINE))
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE) for word in line.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_what_the_containers_start_are_commands_of_ours() -> None:
    """With options that they have."""
    [default] = re.findall(r"^CMD (\[.*\])$", CONTAINERFILE, re.MULTILINE)
    commands = [
        yaml.safe_load(default),
        *(each["command"] for each in compose()["services"].values() if "command" in each),
    ]
    assert len(commands) == 3
    for words in commands:
        read_by_click(words)


def test_the_health_check_asks_whether_it_lives() -> None:
    """It is run here, against something that answers, and something that answers with a fault."""
    [words] = re.findall(r"CMD (\[\"python\".*\])$", CONTAINERFILE, re.MULTILINE)
    code = yaml.safe_load(words)[2]
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if len(asked) == 1 else 500)
            self.end_headers()

    assert "('127.0.0.1', 8321, " in code
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = code.replace("8321", str(server.server_port))
        environ = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
        codes = [
            subprocess.run(
                [sys.executable, "-c", here], env=environ, capture_output=True, timeout=30, check=False
            ).returncode
            for _ in range(2)
        ]
        server.shutdown()
    assert (codes, asked) == ([0, 1], ["/health", "/health"])


def test_the_compose_file_fits_its_schema() -> None:
    """That of the Compose specification."""
    checked(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_services_are_confined_and_get_time_to_stop() -> None:
    """Read-only, without capabilities or new privileges; longer than steps may take."""
    services = compose()["services"]
    for name in ("server", "worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert float(service["stop_grace_period"].rstrip("s")) > GRACE_S + 5
        assert service["depends_on"]["database"]["condition"] == "service_healthy"
    assert services["database"]["networks"] == ["inside"]
    assert compose()["networks"]["inside"] == {"internal": True}
    assert services["server"]["ports"][0].startswith("127.0.0.1:")


def test_no_password_stands_in_the_compose_file() -> None:
    """Each secret is a file that the compose file only names."""
    services, secrets = compose()["services"], compose()["secrets"]
    assert {name for service in services.values() for name in service["secrets"]} == set(secrets)
    assert all(entry.keys() == {"file"} for entry in secrets.values())
    for service in services.values():
        for name, value in service["environment"].items():
            if re.search("PASS|KEY|SECRET|TOKEN", name):
                assert value.startswith("/run/secrets/")
    assert re.fullmatch(r"postgresql://\w+@\w+/\w+", services["server"]["environment"]["WEFT_DATABASE_URL"])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_passes_systemds_own_checks(unit: Path, tmp_path: Path) -> None:
    """Nothing that it does not know; and little that whoever breaks in could do (`security`: below 2 of 10)."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/weft/bin/weft", str(BIN / "weft")), encoding="utf-8")
    assert checked("systemd-analyze", "verify", copy) == ""
    told = checked("systemd-analyze", "security", "--offline=true", copy)
    level = re.search(r"exposure level for \S+: ([\d.]+)", told)
    assert level is not None
    assert float(level[1]) < 2


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_of_ours_and_gives_it_time(unit: Path) -> None:
    """Longer than steps may take; the process alone is told to stop, as it tells its children itself."""
    said = lines_of(unit)
    words = shlex.split(said["ExecStart"][0])
    assert words[0] == "/opt/weft/bin/weft"
    read_by_click(words[1:])
    assert float(said["TimeoutStopSec"][0]) > GRACE_S + 5
    assert said["KillMode"] == ["mixed"]
    assert said["ProtectSystem"] == ["strict"]
    assert said["NoNewPrivileges"] == ["true"]
    assert said["StateDirectory"] == ["weft"]


def test_a_key_is_taken_as_systemd_hands_it_over(tmp_path: Path) -> None:
    """systemd's access list for the one user shows as a mode for the group; anywhere else such a file is refused."""
    key = tmp_path / "key"
    key.write_bytes(b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n")
    given = {"WEFT_KEY_FILE": str(key), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for mode, environ in ((0o440, {"WEFT_KEY_FILE": str(key)}), (0o444, given), (0o460, given)):
        key.chmod(mode)
        with pytest.raises(ConnectionUnusable, match="Others may read"):
            Keys(environ, tmp_path / "home").load("any")
    key.chmod(0o440)
    assert len(Keys(given, tmp_path / "home").load("any")) == 1


def test_a_unit_runs_where_it_may_write_nothing_else(tmp_path: Path) -> None:
    """What `ExecStart` starts works in an empty state directory, with a key from a file that is not in it."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    key = tmp_path / "key"
    key.write_bytes(b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n")
    key.chmod(0o400)
    words = shlex.split(lines_of(DEPLOY / "systemd" / "weft-worker@.service")["ExecStart"][0])[1:]
    done = subprocess.run(
        [sys.executable, "-m", "weft", *words, "--until-idle"],
        cwd=state,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WEFT_HOME": str(state),
            "WEFT_KEY_FILE": str(key),
            "WEFT_LOG": "json",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"event": "stopped"' in done.stdout
