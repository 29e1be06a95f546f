"""Mails through the whole engine: after every fault the right people have it, once, or it is marked.

Who has a mail is counted by the server that took it; what the run says is compared with that.
"""

from __future__ import annotations

import email
import email.policy
import importlib
import textwrap
import time
from collections.abc import Mapping
from typing import Any

import pytest

from weft import plan, source, structure
from weft.engine.driver import Driver
from weft.engine.events import AttemptEnded
from weft.engine.reactor import Surroundings
from weft.engine.report import RunReport, report_of
from weft.executor import Executor
from weft.journal.base import Listed, Record, Rest, RunRow
from weft.journal.memory import MemoryJournal
from weft.redaction import Redactor
from weft.registry import Registry
from weft.sdk import Attempt, Connection
from weft.testing.mail_server import MODES, FaultServer

ledger = importlib.import_module("weft_core.actions._mail_ledger")
smtp = importlib.import_module("weft_core.actions._mail_smtp")

HOUR_S = 3600.0
WORKFLOW = """
name: mail
steps:
  - id: mail
    uses: send_email
    connection: mail
    with:
      to: [ada@example.com, bad@example.com, carl@example.com]
      subject: Hello
      body: "{{ 'word ' * 500 }}"
"""


class OneConnection:
    """The connections of a run that needs one."""

    def __init__(self, server: FaultServer) -> None:
        values = {"host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com"}
        self._connection = Connection("mail", "smtp", {**values, "timeout_s": 0.3, "keep_open_s": 0})

    async def open(self, *args: Any, **kwargs: Any) -> Connection:
        return self._connection


class Hurried(MemoryJournal):
    """A journal whose clock jumps over what somebody waits for."""

    def __init__(self) -> None:
        self.instant = time.time()
        super().__init__(clock=lambda: self.instant)

    async def status(self, run_id: str) -> Listed:
        found = await super().status(run_id)
        self.instant = max(self.instant, found.status.wake_at or 0.0)
        return found


class Run:
    """One run of a workflow against one server, on a clock that jumps over every wait."""

    def __init__(self, registry: Registry, server: FaultServer) -> None:
        self.executor = Executor(OneConnection(server), Redactor(), lambda run_id: None)  # type: ignore[arg-type, return-value]
        self.registry = registry
        self.journal = Hurried()
        self.attempts: list[AttemptEnded] = []

    async def go(self, text: str = WORKFLOW, records: tuple[Record, ...] = ()) -> RunReport:
        document = source.read(textwrap.dedent(text), "mail.yaml")
        planned = plan.compile(structure.load(document), document, self.registry)
        driver = Driver(Surroundings(self.journal, self.executor), lambda text: planned)
        await self.journal.open()
        hash_ = await self.journal.keep_document(textwrap.dedent(text))
        claim = await self.journal.accept(RunRow("run-1", "mail", hash_, "{}", "null", time.time()))
        await self.journal.write(claim, 0, records, Rest("ready"))

        def observe(event: Any) -> None:
            if isinstance(event, AttemptEnded):
                self.attempts.append(event)

        await driver.follow("run-1", observe)
        return report_of(await self.journal.load("run-1"), planned)

    @property
    def waits(self) -> list[float]:
        return [event.wait_s for event in self.attempts]


def output(report: RunReport) -> Mapping[str, Any]:
    [step] = [step for step in report.steps if step.path == "/mail"]
    assert isinstance(step.output, dict)
    return step.output


def ids(server: FaultServer) -> set[str]:
    return {str(parsed(mail)["Message-ID"]) for mail in server.stored}


def parsed(mail: bytes) -> Any:
    return email.message_from_bytes(mail, policy=email.policy.default)


WAITS = [60.0, 300.0, 900.0, 3600.0, 0.0]
LATER, NEVER, DOUBT = "later", "never", "doubt"
EXPECTED = {
    "ok": None,
    "starttls-strip": None,
    "rcpt-mixed": None,
    "reset-after-250": None,
    "quit-hang": None,
    "mail-550": (NEVER, "refused"),
    "rcpt-550": (NEVER, "recipients_refused"),
    "dot-550": (NEVER, "refused"),
    "size": (NEVER, "too_large"),
    "refused": (LATER, "unreachable"),
    "no-banner": (LATER, "timeout"),
    "banner-421": (LATER, "refused"),
    "banner-drop": (LATER, "unreachable"),
    "garbage": (LATER, "not_smtp"),
    "mail-451": (LATER, "refused"),
    "rcpt-450": (LATER, "recipients_refused"),
    "rcpt-drop": (LATER, "unreachable"),
    "data-drop-before": (LATER, "unreachable"),
    "data-452": (LATER, "refused"),
    "drop-mid-data": (LATER, "unreachable"),
    "dot-451": (LATER, "refused"),
    "dot-999": (DOUBT, "delivery_unknown"),
    "drop-after-dot": (DOUBT, "delivery_unknown"),
    "hang-after-dot": (DOUBT, "delivery_unknown"),
}
"""What becomes of a mail to a server that has this fault each time; None: it is sent."""


@pytest.mark.parametrize("mode", MODES)
async def test_a_lasting_fault_ends_as_it_must(
    core_registry: Registry, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may pass is tried again after 1, 5, 15 and 60 minutes, a final no never; only a doubt can leave copies."""
    monkeypatch.setattr(smtp, "SETTLE_S", 0.05)  # the server has its time to go, however busy the machine is
    monkeypatch.setattr("weft.executor.LONGEST_ATTEMPT_S", 0.8 if mode == "hang-after-dot" else 10.0)
    async with FaultServer(mode) as server:
        run = Run(core_registry, server)
        report = await run.go()

    if (expected := EXPECTED[mode]) is None:
        assert report.state == "succeeded"
        assert run.waits == [0.0]
        assert server.copies == dict.fromkeys(output(report)["accepted"], 1)
        assert {item["address"] for item in output(report)["refused"]} == (
            {"bad@example.com"} if mode == "rcpt-mixed" else set()
        )
        return
    course, kind = expected
    assert (report.state, report.problem and report.problem.code) == ("failed", kind)
    assert run.waits == (WAITS if course != NEVER else [0.0])
    assert len(server.stored) == (5 if course == DOUBT else 0)
    marks = [parsed(mail)["Weft-Possible-Repeat"] for mail in server.stored]
    assert marks == ([None, "2", "3", "4", "5"] if course == DOUBT else [])
    assert len(ids(server)) == (1 if course == DOUBT else 0)


@pytest.mark.parametrize("mode", [mode for mode, end in EXPECTED.items() if end and end[0] == DOUBT])
async def test_where_a_second_copy_is_forbidden_nothing_is_sent_again_by_itself(
    core_registry: Registry, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `delivery: at_most_once` the mail that may have arrived is not sent again unless somebody says so."""
    monkeypatch.setattr("weft.executor.LONGEST_ATTEMPT_S", 0.8 if mode == "hang-after-dot" else 10.0)
    async with FaultServer(mode) as server:
        report = await Run(core_registry, server).go(WORKFLOW + "    delivery: at_most_once\n    timeout: 2s\n")

    assert report.problem is not None
    assert report.problem.code == "delivery_unknown"
    assert server.copies == {"ada@example.com": 1, "bad@example.com": 1, "carl@example.com": 1}


class Passing(FaultServer):
    """A server whose fault passes: the first mails meet one mode each, all later ones are taken."""

    def __init__(self, *modes: str, **more: Any) -> None:
        super().__init__("ok", **more)
        self._modes = list(modes)

    async def _greet(self, line: Any) -> bool:
        self.mode = self._modes.pop(0) if self._modes else "ok"
        return await super()._greet(line)


@pytest.mark.parametrize(
    "mode", [mode for mode, end in EXPECTED.items() if end and end[0] == LATER and mode != "refused"]
)
async def test_after_a_fault_that_passes_everybody_has_one_copy(
    core_registry: Registry, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt sends what the first did not, unmarked."""
    monkeypatch.setattr(smtp, "SETTLE_S", 0.05)
    async with Passing(mode) as server:
        run = Run(core_registry, server)
        report = await run.go()

    assert run.waits == [60.0, 0.0]
    assert server.copies == {"ada@example.com": 1, "bad@example.com": 1, "carl@example.com": 1}
    assert output(report)["possible_repeat"] is False
    assert parsed(server.stored[0])["Weft-Possible-Repeat"] is None


async def test_a_repeat_after_a_doubt_is_marked_to_the_end(core_registry: Registry) -> None:
    """The mark does not get lost when another, harmless fault comes between the doubt and the copy."""
    async with Passing("drop-after-dot", "mail-451", "banner-drop") as server:
        run = Run(core_registry, server)
        report = await run.go()

    assert run.waits == [60.0, 300.0, 900.0, 0.0]
    assert [parsed(mail)["Weft-Possible-Repeat"] for mail in server.stored] == [None, "4"]
    assert len(ids(server)) == 1
    assert output(report)["possible_repeat"] is True


async def test_only_who_was_put_off_is_tried_again(core_registry: Registry) -> None:
    """Ada has the mail at once, bad never, Carl at the third attempt; each who has it got one copy, with all in To."""
    busy = [{"carl@example.com"}, {"carl@example.com"}]
    async with FaultServer("rcpt-mixed", busy=busy) as server:
        run = Run(core_registry, server)
        report = await run.go()

    assert run.waits == [60.0, 300.0, 0.0]
    assert [event.problem and event.problem.code for event in run.attempts] == ["recipients_deferred"] * 2 + [None]
    assert server.copies == {"ada@example.com": 1, "carl@example.com": 1}
    named = [command[9:-1] for command in server.commands if command.startswith("RCPT")]
    assert [name.partition("@")[0] for name in named] == ["ada", "bad", "carl", "carl", "carl"]
    assert [parsed(mail)["To"] for mail in server.stored] == ["ada@example.com, bad@example.com, carl@example.com"] * 2
    assert [parsed(mail)["Weft-Possible-Repeat"] for mail in server.stored] == [None, None]
    assert output(report) == {
        **output(report),
        "state": "partly_refused",
        "accepted": ["ada@example.com", "carl@example.com"],
        "refused": [{"address": "bad@example.com", "code": 550, "message": "5.1.1 no such user"}],
        "possible_repeat": False,
    }


async def test_who_is_put_off_to_the_end_is_named(core_registry: Registry) -> None:
    """After the last try the step has succeeded for those who have the mail, and says who has not, and why."""
    async with FaultServer("ok", busy=[{"carl@example.com"}] * 9) as server:
        run = Run(core_registry, server)
        report = await run.go()

    assert run.waits == WAITS
    assert server.copies == {"ada@example.com": 1, "bad@example.com": 1}
    assert output(report)["state"] == "partly_refused"
    assert output(report)["refused"] == [
        {"address": "carl@example.com", "code": 451, "message": "4.7.1 try again later"}
    ]


async def test_a_doubt_about_the_last_recipients_sends_nothing_to_the_first(core_registry: Registry) -> None:
    """A mail that Ada has for certain is not sent to her again when it is in doubt for Carl."""
    async with Passing("ok", "drop-after-dot", busy=[{"carl@example.com"}]) as server:
        text = WORKFLOW.replace(
            "[ada@example.com, bad@example.com, carl@example.com]", "[ada@example.com, carl@example.com]"
        )
        report = await Run(core_registry, server).go(text)

    assert server.copies == {"ada@example.com": 1, "carl@example.com": 2}
    assert [parsed(mail)["Weft-Possible-Repeat"] for mail in server.stored] == [None, None, "3"]
    assert output(report)["state"] == "sent"
    assert output(report)["possible_repeat"] is True


async def test_after_a_crash_nobody_who_has_it_for_certain_gets_it_again(core_registry: Registry) -> None:
    """An attempt that a crash cut off is repeated and marked, for those it was for."""
    async with FaultServer("ok", busy=[{"carl@example.com"}]) as server:
        first = Run(core_registry, server)
        await first.go()
        records = (await first.journal.load("run-1")).records
        before = dict(server.copies)
        cut = next(at for at, record in enumerate(records) if (record.kind, record.n) == ("begun", 2)) + 1
        report = await Run(core_registry, server).go(records=tuple(records[:cut]))

    assert before == {"ada@example.com": 1, "bad@example.com": 1, "carl@example.com": 1}
    assert server.copies == {"ada@example.com": 1, "bad@example.com": 1, "carl@example.com": 2}
    assert parsed(server.stored[-1])["Weft-Possible-Repeat"] == "2"
    assert output(report)["accepted"] == ["ada@example.com", "bad@example.com", "carl@example.com"]


async def test_the_doubt_of_a_crash_is_not_forgotten_by_a_harmless_fault(core_registry: Registry) -> None:
    """An attempt that was cut off may have sent the mail: the copy is marked, though a refusal came between."""
    async with Passing("mail-451") as server:
        run = Run(core_registry, server)
        report = await run.go(records=(await begun(core_registry),))

    assert run.waits == [60.0, 0.0]
    assert [parsed(mail)["Weft-Possible-Repeat"] for mail in server.stored] == ["2"]
    assert output(report)["possible_repeat"] is True


async def begun(registry: Registry) -> Record:
    """What stands on record before a mail is sent."""
    async with FaultServer("ok") as server:
        run = Run(registry, server)
        await run.go()
        return next(record for record in (await run.journal.load("run-1")).records if record.kind == "begun")


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (2, 3), (7, 8)])
async def test_the_step_says_how_often(core_registry: Registry, retries: int, tries: int) -> None:
    """`retries` counts the attempts after the first; the last wait is repeated."""
    async with FaultServer("mail-451") as server:
        run = Run(core_registry, server)
        await run.go(WORKFLOW + f"      retries: {retries}\n")

    assert run.waits == [*[60.0, 300.0, 900.0, 3600.0, 3600.0, 3600.0, 3600.0][: tries - 1], 0.0]


# The ledger


def test_a_ledger_goes_by_order_and_takes_no_nonsense() -> None:
    """A record whose addresses are masked still counts; one of another length or shape is as good as none."""

    def told(*facts: Any) -> Any:
        return ledger.Ledger.of(
            ["a@x.test", "b@x.test"], [Attempt("default", 1, "k", None, 1, 0.0, {"recipients": list(facts)})]
        )

    assert told({"address": "••••••", "state": "accepted"}, {"state": "deferred", "code": 451}).left == ("b@x.test",)
    assert told({"state": "accepted"}).left == ("a@x.test", "b@x.test")
    assert told("x", {"state": "gone"}).left == ("a@x.test", "b@x.test")
    assert told({"state": "refused", "code": "x", "message": None}, 3).missing[0].code == 0


def test_a_record_stays_small_enough_to_be_kept() -> None:
    """A hundred recipients with endless reasons lose the reasons, never who has the mail."""
    import json

    from weft.executor import LARGEST_DETAILS

    names = [f"{'ü' * 31}{number}@{'d' * 60}.{'e' * 60}.{'f' * 60}.{'g' * 60}.test" for number in range(100)]
    refused = [smtp.Refused(name, 451, "é" * 1000) for name in names[1:]]
    after = ledger.Ledger.of(names, []).after(refused, taken=True)

    record = after.record()
    assert len(json.dumps(record)) < LARGEST_DETAILS
    again = ledger.Ledger.of(names, [Attempt("default", 1, "k", None, 1, 0.0, {"recipients": record})])
    assert again.accepted == names[:1]
    assert len(again.left) == 99
