"""A real mail server for tests: Debian's Exim on a port of loopback, with an account, TLS and a mailbox to read back.

It runs on a configuration of its own in a temporary directory and touches nothing of the machine's mail. Started by
root it delivers as the package's user, else as whoever runs the tests. `tests/install-servers` installs it.

    with Exim() as server:
        ... send to anybody at port `server.port`, STARTTLS by `server.authority`, account u, password p ...
        mails = server.mails(2)
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import getpass
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
from email.message import EmailMessage
from pathlib import Path

import trustme

PROGRAM = Path("/usr/sbin/exim4")
PACKAGE_USER = "Debian-exim"

CONFIGURATION = """
primary_hostname = mail.example.test
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/pid
exim_user = {user}
exim_group = {group}
never_users =
keep_environment =
tls_certificate = {directory}/certificate.pem
tls_privatekey = {directory}/key.pem
tls_advertise_hosts = *
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
message_size_limit = 1M
acl_smtp_rcpt = rcpt
acl_smtp_data = data
smtp_accept_max_per_connection = {mails_per_session}
smtp_accept_queue_per_connection = 0
smtp_enforce_sync = true
check_rfc2047_length = true

begin acl
rcpt:
  deny !authenticated = *
       message = authentication required
  deny local_parts = nobody
       message = no such user
  defer local_parts = busy
       message = try again later
  accept
data:
  deny !verify = header_syntax
       message = header syntax: $acl_verify_message
  accept

begin routers
all:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {directory}/Maildir
  create_directory
  batch_max = 100
  user = {user}
  group = {group}
  envelope_to_add
  return_path_add

begin retry
* * F,1h,5m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{u}}}}{{eq{{$auth3}}{{p}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = ${{if and{{{{eq{{$auth1}}{{u}}}}{{eq{{$auth2}}{{p}}}}}}}}
  server_set_id = $auth1
"""


class Exim:
    """Exim, from `with` to its end.

    Recipients named `nobody` are refused for good, with `busy` for now.

    Args:
        mails_per_session: After how many Exim ends a session with 421.
    """

    host = "127.0.0.1"

    def __init__(self, *, mails_per_session: int = 1000) -> None:
        self.authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self._mails_per_session = mails_per_session
        self.port = 0

    def __enter__(self) -> Exim:
        if not PROGRAM.exists():
            raise FileNotFoundError(f"{PROGRAM} is missing: run tests/install-servers")
        self.directory = Path(tempfile.mkdtemp(prefix="weft-exim-"))
        self.port = _free_port()
        user = PACKAGE_USER if os.geteuid() == 0 else getpass.getuser()
        self._write(user)
        self._process = subprocess.Popen(
            [PROGRAM, "-C", self.directory / "configuration", "-bdf", "-q1h"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # with it the processes of its sessions
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        with contextlib.suppress(OSError):  # a delivery may still be ending
            shutil.rmtree(self.directory)

    def _write(self, user: str) -> None:
        certificate = self.authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.RSA)
        text = CONFIGURATION.format(
            port=self.port,
            directory=self.directory,
            user=user,
            group=user if os.geteuid() == 0 else os.getegid(),
            mails_per_session=self._mails_per_session,
        )
        files = {
            "configuration": text.encode(),
            "certificate.pem": b"".join(part.bytes() for part in certificate.cert_chain_pems),
            "key.pem": certificate.private_key_pem.bytes(),
        }
        self.directory.chmod(0o755)
        for name, content in files.items():
            (self.directory / name).write_bytes(content)
        (self.directory / "configuration").chmod(0o644)
        if os.geteuid() == 0:
            for path in (self.directory, self.directory / "certificate.pem", self.directory / "key.pem"):
                shutil.chown(path, user, user)

    def _wait(self) -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP(self.host, self.port, timeout=5):
                return
            time.sleep(0.05)
        raise RuntimeError(f"Exim has not started: {self.log()}")

    def log(self) -> str:
        """What Exim wrote of what it did."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*log")))

    def files(self, count: int) -> list[bytes]:
        """The mails of the mailbox as they are stored, once there are `count`; the order is that of their names."""
        until = time.monotonic() + 20
        while len(found := list((self.directory / "Maildir" / "new").glob("*"))) < count and time.monotonic() < until:
            time.sleep(0.05)
        assert len(found) >= count, f"{len(found)} of {count} mails arrived: {self.log()[-2000:]}"
        return [path.read_bytes() for path in sorted(found)]

    def mails(self, count: int) -> list[EmailMessage]:
        """The mails of the mailbox, once there are `count`."""
        return [email.message_from_bytes(content, policy=email.policy.default) for content in self.files(count)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
