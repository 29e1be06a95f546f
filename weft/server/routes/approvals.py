"""Questions that runs wait on: those that are open, answers over the API, and the page that a link in a mail leads to.

A link in a mail is opened by scanners and previews before a person sees it. So a GET only shows the question; the answer is
a POST of the form on the page (rule B1).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Annotated, Final, Literal
from urllib.parse import parse_qs

from fastapi import Path, Query, Request
from fastapi.responses import HTMLResponse

from weft.access import Identity
from weft.engine.approving import Question
from weft.engine.report import RunSummary
from weft.errors import InvalidInputs, JournalRefused, NotAllowed, NotFound
from weft.journal.base import ENDS, OPEN, Kept, RunQuery
from weft.outcome import decode
from weft.reading import learn_secrets, redacted, summaries
from weft.server.deps import Cursor, HouseDep, Limit, Page, Who, api, needs
from weft.server.house import House
from weft.server.pages import page
from weft.server.routes.run_pages import place_behind, runs_behind
from weft.server.routes.run_shapes import Answer, OpenQuestion, RunId, TokenAnswer

router = api("approvals")
pages = api("approvals", prefix="")

RUNS_READ: Final = 200
"""Runs that are looked through at a time for open questions."""

LONGEST_COMMENT: Final = 10_000
LARGEST_FORM: Final = 100_000

Token = Annotated[str, Path(max_length=4_000, description="As it stands in the link.")]
Standing = Literal["open", "answered", "expired", "asked_again", "ended"]


# ---- over the API
@router.get("/approvals", dependencies=[needs("view")])
async def list_approvals(
    house: HouseDep, cursor_: Annotated[Cursor, Query(alias="cursor")] = None, limit: Annotated[Limit, Query()] = 100
) -> Page[OpenQuestion]:
    """List the questions that wait for an answer, those of the youngest runs first."""
    journal = await house.runtime.opened()
    await learn_secrets(house.runtime)
    place = cursor_
    items: list[OpenQuestion] = []
    while len(items) < limit:
        found = await runs_behind(journal, RunQuery(states=OPEN, limit=RUNS_READ), place)
        for run in found:
            if run.status.state == "ready" and run.status.size == 0:  # it has not begun
                continue
            items += [redacted(each, house.runtime.redactor) for each in _open(await journal.load(run.row.id))]
            if len(items) >= limit:  # all of a run stand on one page
                return Page(items=items, next=place_behind(run))
        if len(found) < RUNS_READ:
            break
        place = place_behind(found[-1])
    return Page(items=items)


def _open(run: Kept) -> Iterator[OpenQuestion]:
    """Yield the open questions of a run; no plan is needed for it, so that none is missing where an action is."""
    if run.status.state in ENDS:
        return
    over = {(each.path, each.n) for each in run.records if each.kind in ("signal", "rang")}
    for record in run.records:
        if record.kind != "waits" or (record.path, record.n) in over:
            continue
        facts = decode(record.payload)
        if "message" not in facts:  # it waits for a child run
            continue
        yield OpenQuestion(
            run_id=run.row.id,
            workflow=run.row.workflow,
            path=record.path,
            message=str(facts["message"]),
            who=[str(each) for each in facts.get("who") or ()],
            asked_at=datetime.fromtimestamp(facts["at"], UTC),
            deadline=None if facts.get("deadline") is None else datetime.fromtimestamp(facts["deadline"], UTC),
            parked=run.status.state == "parked",
        )


@router.post("/runs/{run_id}/answers", dependencies=[needs("run")])
async def answer_run(run_id: RunId, asked: Answer, who: Who, house: HouseDep) -> RunSummary:
    """Approve or reject what a step asks, once; who has, how and when is on record."""
    journal = await house.runtime.opened()
    if "\0" in run_id:
        raise NotFound("There is no such run.", code="unknown_run")
    found = await journal.load(run_id)
    path = f"/{asked.step.strip('/')}"
    by = _name(found, path, asked.by, who)
    await house.runtime.answer(run_id, path, asked.answer, by=by, how="api", comment=asked.comment)
    house.runtime.dispatcher.look()
    await house.audit.record(who, "approval.answered", run_id, {"path": path, "answer": asked.answer, "by": by})
    _told(house, found, path)
    (summary,) = await summaries(house.runtime, [await journal.status(run_id)])
    return summary


@router.post("/approvals/answers", dependencies=[needs("run")])
async def answer_by_token(asked: TokenAnswer, house: HouseDep) -> RunSummary:
    """Approve or reject what the holder of a link was asked, once, in the name that the link was made for."""
    question = await house.runtime.question_of(asked.token)
    found = await house.runtime.journal.load(question.run_id)
    await house.runtime.answer_by_token(asked.token, asked.answer, asked.comment)
    await _answered(house, found, question, asked.answer)
    (summary,) = await summaries(house.runtime, [await house.runtime.journal.status(question.run_id)])
    return summary


async def _answered(house: House, found: Kept, question: Question, answer: str) -> None:
    """Have a run go on that was answered by a token, and put down by whom."""
    house.runtime.dispatcher.look()
    who = Identity(question.who or "whoever has the link", "token", frozenset())
    await house.audit.record(who, "approval.answered", question.run_id, {"path": question.path, "answer": answer})
    _told(house, found, question.path)


def _name(found: Kept, path: str, by: str | None, who: Identity) -> str:
    """Return in whose name somebody answers.

    Raises:
        NotFound: The step waits for nothing, and others do.
        NotAllowed: It is another one's name, or one that the question does not allow.
    """
    open_ = {each.path: each for each in _open(found)}
    if open_ and path not in open_ and not any((each.path, each.kind) == (path, "waits") for each in found.records):
        named = ", ".join(each.strip("/") for each in open_)
        raise NotFound(f"Step {path!r} waits for no answer.", code="not_waiting", remedy=f"These wait: {named}.")
    if by is not None and by != who.name and not who.may("admin"):
        raise NotAllowed(f"{who.name} answers in the own name.", remedy="Leave `by` out, or ask an administrator.")
    allowed = open_[path].who if path in open_ else []
    if allowed and (by or who.name) not in allowed:
        raise NotAllowed(
            f"Only {' or '.join(allowed)} may answer step {path.strip('/')!r}.",
            remedy="Use the link that was sent to one of them; an administrator may say for whom the answer is: `by`.",
        )
    return by or who.name


def _told(house: House, found: Kept, path: str) -> None:
    house.hub.publish("approvals", "answered", {"run_id": found.row.id, "workflow": found.row.workflow, "path": path})


# ---- the page behind a link
@pages.get("/approve/{token}", response_class=HTMLResponse, include_in_schema=False)
async def show_question(
    token: Token, house: HouseDep, answer: Annotated[str | None, Query(max_length=20)] = None
) -> HTMLResponse:
    """Show a question to whoever holds its link; it answers nothing."""
    try:
        question = await house.runtime.question_of(token)
    except (InvalidInputs, NotFound):
        return _unknown()
    found = await house.runtime.journal.load(question.run_id)
    return await _shown(house, found, question, answer)


@pages.post("/approve/{token}", response_class=HTMLResponse, include_in_schema=False)
async def answer_question(token: Token, request: Request, house: HouseDep) -> HTMLResponse:
    """Answer a question in the name that its link was made for."""
    said, comment = await _form(request)
    try:
        question = await house.runtime.question_of(token)
    except (InvalidInputs, NotFound):
        return _unknown()
    if said is None:
        found = await house.runtime.journal.load(question.run_id)
        return await _shown(house, found, question, None, note="Choose one of the two answers.", status=422)
    try:
        await house.runtime.answer_by_token(token, said, comment)
    except JournalRefused:
        found = await house.runtime.journal.load(question.run_id)
        return await _shown(house, found, question, None, status=409)
    found = await house.runtime.journal.load(question.run_id)
    await _answered(house, found, question, said)
    done = "Approved" if said == "approve" else "Rejected"
    return page(done, f'<p class="lead">Thank you. Your answer is on record.</p>{_facts(house, found, question)}')


async def _form(request: Request) -> tuple[Literal["approve", "reject"] | None, str | None]:
    """Return the answer and the comment of a form; None for an answer that is neither."""
    body = await request.body()
    try:
        fields = parse_qs(body[:LARGEST_FORM].decode(), max_num_fields=10)
    except ValueError:  # not UTF-8, or far too many fields
        return None, None
    said = fields.get("answer", [""])[-1]
    comment = fields.get("comment", [""])[-1].replace("\0", "").strip()[:LONGEST_COMMENT] or None
    return ("approve" if said == "approve" else "reject" if said == "reject" else None), comment


def _unknown() -> HTMLResponse:
    told = '<p class="lead">This link is not complete, or it was not made here.</p><p>Open it again as it was sent to you.</p>'
    return page("There is no such question", told, status=404)


async def _shown(
    house: House, found: Kept, question: Question, answer: str | None, *, note: str = "", status: int = 200
) -> HTMLResponse:
    """Return the page of a question: with the form while it is open, and what became of it after that."""
    await learn_secrets(house.runtime)
    standing, by = _standing(found, question, house.runtime.journal.now())
    facts = _facts(house, found, question)
    if standing == "open":
        return page("Your answer is asked for", f"{facts}{_said(note)}{_buttons(answer)}", status=status)
    title, told = {
        "answered": ("This is answered already", f"It was {by}. Nothing more is needed."),
        "expired": ("The time for this answer is over", "The run went on without it."),
        "asked_again": ("This was asked again", "Use the link that was sent last."),
        "ended": ("The run is over", "Nobody waits for this answer any more."),
    }[standing]
    return page(title, f'<p class="lead">{escape(told)}</p>{facts}', status=status if status != 200 else 410)


def _standing(found: Kept, question: Question, now: float) -> tuple[Standing, str]:
    """Return what became of a question, and of one that is answered in words how."""
    at = (question.path, question.n)
    for record in found.records:
        if (record.path, record.n, record.kind) == (*at, "signal"):
            answer = decode(record.payload).get("answer")
            return "answered", {"approve": "approved", "reject": "rejected"}.get(str(answer), "answered")
        if (record.path, record.n, record.kind) == (*at, "rang"):
            return "expired", ""
    if any(each.path == question.path and each.kind == "waits" and each.n > question.n for each in found.records):
        return "asked_again", ""
    if found.status.state in ENDS:
        return "ended", ""
    return ("expired" if question.deadline is not None and question.deadline <= now else "open"), ""


def _facts(house: House, found: Kept, question: Question) -> str:
    text = house.runtime.redactor.text
    rows = [("Workflow", found.row.workflow), ("Step", question.path.strip("/")), ("Asked of", question.who or "you")]
    if question.deadline is not None:
        rows.append(("Until", f"{datetime.fromtimestamp(question.deadline, UTC):%d %B %Y, %H:%M} UTC"))
    lines = "".join(f'<tr><th scope="row">{name}</th><td>{escape(text(value))}</td></tr>' for name, value in rows)
    said = "<br>".join(escape(line) for line in text(question.message).splitlines())
    return f'<p class="lead">{said}</p><table>{lines}</table>'


def _said(note: str) -> str:
    return f'<div class="refusal" role="alert"><p>{escape(note)}</p></div>' if note else ""


def _buttons(answer: str | None) -> str:
    """Return the form; what the link has suggested stands first, and nothing is sent before a button is pressed."""
    kinds = [("approve", "Approve"), ("reject", "Reject")]
    if answer == "reject":
        kinds.reverse()
    buttons = "".join(
        f'<button name="answer" value="{value}"{"" if i == 0 else " class=plain"}>{label}</button>'
        for i, (value, label) in enumerate(kinds)
    )
    return (
        '<form method="post"><label for="comment">Comment (you may leave it empty)</label>'
        f'<input id="comment" name="comment" maxlength="{LONGEST_COMMENT}" autocomplete="off">{buttons}</form>'
    )


router.routes.extend(pages.routes)
