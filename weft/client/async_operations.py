"""An operation of the API each. Made by tests/client/generate.py of docs/openapi.json."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from weft.client import models
from weft.client.asking import quoted
from weft.client.async_transport import AsyncTransport


class AsyncOperations(AsyncTransport):
    """What a server can be asked for."""

    async def add_connection(self, body: models.AddAsked) -> models.ConnectionDetail:
        """Keep a new connection, its secrets encrypted."""
        found: models.ConnectionDetail = await self._send(
            "POST", "/api/v1/connections", models.ConnectionDetail, body=body
        )
        return found

    async def answer_by_token(self, body: models.TokenAnswer) -> models.RunSummary:
        """Approve or reject what the holder of a link was asked, once, in the name that the link was made for."""
        found: models.RunSummary = await self._send("POST", "/api/v1/approvals/answers", models.RunSummary, body=body)
        return found

    async def answer_run(self, run_id: str, body: models.Answer) -> models.RunSummary:
        """Approve or reject what a step asks, once; who has, how and when is on record."""
        found: models.RunSummary = await self._send(
            "POST", f"/api/v1/runs/{quoted(run_id)}/answers", models.RunSummary, body=body
        )
        return found

    async def backfill_schedule(self, body: models.Backfill) -> list[models.BackfillReport]:
        """Start the runs of instants that are past: those missed or skipped, and those before the schedule was armed."""
        found: list[models.BackfillReport] = await self._send(
            "POST", "/api/v1/schedules/backfill", list[models.BackfillReport], body=body
        )
        return found

    async def cancel_run(self, run_id: str, body: models.Cancel | None = None) -> models.RunSummary:
        """Ask a run to stop: no step is begun any more, what cannot be taken back is waited for, `finally` runs."""
        found: models.RunSummary = await self._send(
            "POST", f"/api/v1/runs/{quoted(run_id)}/cancel", models.RunSummary, body=body
        )
        return found

    async def change_connection(self, name: str, body: models.ChangeAsked) -> models.ConnectionDetail:
        """Change a connection that is kept here: fields that are left out stay as they are, null takes one away."""
        found: models.ConnectionDetail = await self._send(
            "PATCH", f"/api/v1/connections/{quoted(name)}", models.ConnectionDetail, body=body
        )
        return found

    async def check_step(self, body: models.StepAsked) -> models.StepChecked:
        """Say what is wrong with one step in its place of a document, before it is saved."""
        found: models.StepChecked = await self._send("POST", "/api/v1/steps/check", models.StepChecked, body=body)
        return found

    async def compare_runs(self, run_id: str, *, other: str) -> models.RunComparison:
        """Show two runs side by side: what they were given, what each step took and whether it gave the same."""
        found: models.RunComparison = await self._send(
            "GET", f"/api/v1/runs/{quoted(run_id)}/comparison", models.RunComparison, query={"other": other}
        )
        return found

    async def complete_expression(self, body: models.CompletionAsked) -> models.Completion:
        """Tell what may stand at a cursor: names with their values or declared types, members, filters, methods."""
        found: models.Completion = await self._send(
            "POST", "/api/v1/expressions/complete", models.Completion, body=body
        )
        return found

    async def create_token(self, body: models.NewToken) -> models.MadeToken:
        """Make a token. What it is, is shown this once."""
        found: models.MadeToken = await self._send("POST", "/api/v1/tokens", models.MadeToken, body=body)
        return found

    async def create_workflow(self, body: models.CreateAsked) -> models.WorkflowObject:
        """Make a workflow: an empty one, one with a text, or one like an example of a pack."""
        found: models.WorkflowObject = await self._send("POST", "/api/v1/workflows", models.WorkflowObject, body=body)
        return found

    async def diff_workflow(self, name: str, *, before: int, after: int | None = None) -> models.DiffObject:
        """Compare two versions of a workflow, or one with what it is now."""
        found: models.DiffObject = await self._send(
            "GET", f"/api/v1/workflows/{quoted(name)}/diff", models.DiffObject, query={"before": before, "after": after}
        )
        return found

    async def download_artifact(self, run_id: str, artifact: str) -> bytes:
        """Download a file that a step has kept. It is never shown in place: it is foreign content."""
        found: bytes = await self._send("GET", f"/api/v1/runs/{quoted(run_id)}/artifacts/{quoted(artifact)}", bytes)
        return found

    async def download_attachment(self, mail: str, number: int) -> bytes:
        """Download a file that is attached to a mail."""
        found: bytes = await self._send("GET", f"/api/v1/outbox/{quoted(mail)}/attachments/{quoted(number)}", bytes)
        return found

    async def download_mail(self, mail: str) -> bytes:
        """Download a mail as it was received."""
        found: bytes = await self._send("GET", f"/api/v1/outbox/{quoted(mail)}/raw", bytes)
        return found

    async def dry_run(self, body: models.Start) -> models.DryRun:
        """Rehearse a run: what each step would be given; nothing is sent, no connection is opened, nothing is kept."""
        found: models.DryRun = await self._send("POST", "/api/v1/runs/dry-run", models.DryRun, body=body)
        return found

    async def edit_workflow(
        self, name: str, body: models.OperationsAsked, *, if_match: str | None = None
    ) -> models.WorkflowChanged:
        """Change a workflow by operations; everything else in its file stays as it is, byte for byte."""
        found: models.WorkflowChanged = await self._send(
            "POST",
            f"/api/v1/workflows/{quoted(name)}/operations",
            models.WorkflowChanged,
            headers={"if-match": if_match},
            body=body,
        )
        return found

    async def enable_workflow(
        self, name: str, body: models.EnabledAsked, *, if_match: str | None = None
    ) -> models.WorkflowChanged:
        """Let the triggers of a workflow start runs, or no longer."""
        found: models.WorkflowChanged = await self._send(
            "PUT",
            f"/api/v1/workflows/{quoted(name)}/enabled",
            models.WorkflowChanged,
            headers={"if-match": if_match},
            body=body,
        )
        return found

    async def end_session(self) -> None:
        """Log out. A token stays as it is: it is revoked, not logged out."""
        await self._send("DELETE", "/api/v1/session", None)

    async def estimate_model(self, body: models.EstimateAsked) -> models.EstimateObject:
        """Tell the most that an answer with so many tokens can cost."""
        found: models.EstimateObject = await self._send(
            "POST", "/api/v1/models/estimate", models.EstimateObject, body=body
        )
        return found

    async def explain_model(self, body: models.ExplainAsked) -> models.ExplanationObject:
        """Tell which parameters a model takes, why it does not take the others, and which given values do not fit."""
        found: models.ExplanationObject = await self._send(
            "POST", "/api/v1/models/explain", models.ExplanationObject, body=body
        )
        return found

    async def explain_schedule(self, body: models.ScheduleAsked) -> models.ScheduleExplained:
        """Say in words when a schedule starts runs, which instants come next in two zones, and what clock changes do."""
        found: models.ScheduleExplained = await self._send(
            "POST", "/api/v1/schedules/explain", models.ScheduleExplained, body=body
        )
        return found

    async def list_actions(self, *, find: str | None = None, category: str | None = None) -> list[models.ActionSummary]:
        """List all actions by id."""
        found: list[models.ActionSummary] = await self._send(
            "GET", "/api/v1/actions", list[models.ActionSummary], query={"find": find, "category": category}
        )
        return found

    async def list_approvals(self, *, cursor: str | None = None, limit: int | None = None) -> models.PageOpenQuestion:
        """List the questions that wait for an answer, those of the youngest runs first."""
        found: models.PageOpenQuestion = await self._send(
            "GET", "/api/v1/approvals", models.PageOpenQuestion, query={"cursor": cursor, "limit": limit}
        )
        return found

    async def each_of_approvals(self, *, limit: int | None = None) -> AsyncIterator[models.OpenQuestion]:
        """List the questions that wait for an answer, those of the youngest runs first."""
        cursor: str | None = None
        while True:
            page = await self.list_approvals(limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_audit(self, *, cursor: str | None = None, limit: int | None = None) -> models.PageAuditEntry:
        """List what was done, the newest first."""
        found: models.PageAuditEntry = await self._send(
            "GET", "/api/v1/audit", models.PageAuditEntry, query={"cursor": cursor, "limit": limit}
        )
        return found

    async def each_of_audit(self, *, limit: int | None = None) -> AsyncIterator[models.AuditEntry]:
        """List what was done, the newest first."""
        cursor: str | None = None
        while True:
            page = await self.list_audit(limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_budgets(self) -> models.BudgetList:
        """List today's caps of the workspace and of its workflows, and where each stands."""
        found: models.BudgetList = await self._send("GET", "/api/v1/budgets", models.BudgetList)
        return found

    async def list_connection_types(self) -> list[models.ConnectionTypeObject]:
        """List the types of connections by id."""
        found: list[models.ConnectionTypeObject] = await self._send(
            "GET", "/api/v1/connection-types", list[models.ConnectionTypeObject]
        )
        return found

    async def list_connections(self, *, type_: str | None = None) -> list[models.ConnectionSummary]:
        """List the connections there are, where each comes from, and which workflows use it."""
        found: list[models.ConnectionSummary] = await self._send(
            "GET", "/api/v1/connections", list[models.ConnectionSummary], query={"type": type_}
        )
        return found

    async def list_examples(self) -> list[models.ExampleObject]:
        """List the workflows that packs bring, to begin with one of them."""
        found: list[models.ExampleObject] = await self._send("GET", "/api/v1/examples", list[models.ExampleObject])
        return found

    async def list_mails(self, *, cursor: str | None = None, limit: int | None = None) -> models.PageMail:
        """List the mails, the newest first."""
        found: models.PageMail = await self._send(
            "GET", "/api/v1/outbox", models.PageMail, query={"cursor": cursor, "limit": limit}
        )
        return found

    async def each_of_mails(self, *, limit: int | None = None) -> AsyncIterator[models.Mail]:
        """List the mails, the newest first."""
        cursor: str | None = None
        while True:
            page = await self.list_mails(limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_models(
        self,
        *,
        find: str | None = None,
        supports: list[str] | None = None,
        takes: list[str] | None = None,
        provider: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> models.PageModelObject:
        """List models by provider and name."""
        found: models.PageModelObject = await self._send(
            "GET",
            "/api/v1/models",
            models.PageModelObject,
            query={
                "find": find,
                "supports": supports,
                "takes": takes,
                "provider": provider,
                "cursor": cursor,
                "limit": limit,
            },
        )
        return found

    async def each_of_models(
        self,
        *,
        find: str | None = None,
        supports: list[str] | None = None,
        takes: list[str] | None = None,
        provider: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[models.ModelObject]:
        """List models by provider and name."""
        cursor: str | None = None
        while True:
            page = await self.list_models(
                find=find, supports=supports, takes=takes, provider=provider, limit=limit, cursor=cursor
            )
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_occurrences(
        self,
        *,
        schedule: str,
        fate: list[Literal["fired", "skipped", "missed"]] | None = None,
        since: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> models.PageOccurrenceReport:
        """List what became of the instants of a schedule, the youngest first."""
        found: models.PageOccurrenceReport = await self._send(
            "GET",
            "/api/v1/schedules/occurrences",
            models.PageOccurrenceReport,
            query={"schedule": schedule, "fate": fate, "since": since, "cursor": cursor, "limit": limit},
        )
        return found

    async def each_of_occurrences(
        self,
        *,
        schedule: str,
        fate: list[Literal["fired", "skipped", "missed"]] | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[models.OccurrenceReport]:
        """List what became of the instants of a schedule, the youngest first."""
        cursor: str | None = None
        while True:
            page = await self.list_occurrences(schedule=schedule, fate=fate, since=since, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_options(
        self,
        action: str,
        parameter: str,
        *,
        by: str | None = None,
        find: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> models.OptionsPage:
        """List the values that a field of an action's form suggests."""
        found: models.OptionsPage = await self._send(
            "GET",
            f"/api/v1/actions/{quoted(action)}/options/{quoted(parameter)}",
            models.OptionsPage,
            query={"by": by, "find": find, "cursor": cursor, "limit": limit},
        )
        return found

    async def each_of_options(
        self, action: str, parameter: str, *, by: str | None = None, find: str | None = None, limit: int | None = None
    ) -> AsyncIterator[models.OptionObject]:
        """List the values that a field of an action's form suggests."""
        cursor: str | None = None
        while True:
            page = await self.list_options(action, parameter, by=by, find=find, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_packs(self) -> list[models.PackObject]:
        """List the packs in use, and those that cannot be used with the reasons."""
        found: list[models.PackObject] = await self._send("GET", "/api/v1/packs", list[models.PackObject])
        return found

    async def list_pins(self, name: str) -> models.PinsObject:
        """List the outputs that are pinned."""
        found: models.PinsObject = await self._send("GET", f"/api/v1/workflows/{quoted(name)}/pins", models.PinsObject)
        return found

    async def list_providers(
        self, *, find: str | None = None, supports: list[str] | None = None, takes: list[str] | None = None
    ) -> list[models.ProviderSummary]:
        """List all providers of models, or those that have models of a kind."""
        found: list[models.ProviderSummary] = await self._send(
            "GET",
            "/api/v1/providers",
            list[models.ProviderSummary],
            query={"find": find, "supports": supports, "takes": takes},
        )
        return found

    async def list_runs(
        self,
        *,
        workflow: str | None = None,
        state: list[Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]] | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str | None = None,
        schedule: str | None = None,
        parent: str | None = None,
        before: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> models.PageRunSummary:
        """List runs, the youngest first."""
        found: models.PageRunSummary = await self._send(
            "GET",
            "/api/v1/runs",
            models.PageRunSummary,
            query={
                "workflow": workflow,
                "state": state,
                "since": since,
                "until": until,
                "text": text,
                "schedule": schedule,
                "parent": parent,
                "before": before,
                "cursor": cursor,
                "limit": limit,
            },
        )
        return found

    async def each_of_runs(
        self,
        *,
        workflow: str | None = None,
        state: list[Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]] | None = None,
        since: str | None = None,
        until: str | None = None,
        text: str | None = None,
        schedule: str | None = None,
        parent: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[models.RunSummary]:
        """List runs, the youngest first."""
        cursor: str | None = None
        while True:
            page = await self.list_runs(
                workflow=workflow,
                state=state,
                since=since,
                until=until,
                text=text,
                schedule=schedule,
                parent=parent,
                before=before,
                limit=limit,
                cursor=cursor,
            )
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_schedules(
        self, *, all_: bool | None = None, cursor: str | None = None, limit: int | None = None
    ) -> models.PageScheduleReport:
        """List schedules: what each is, when it starts next, what became of its last start."""
        found: models.PageScheduleReport = await self._send(
            "GET", "/api/v1/schedules", models.PageScheduleReport, query={"all": all_, "cursor": cursor, "limit": limit}
        )
        return found

    async def each_of_schedules(
        self, *, all_: bool | None = None, limit: int | None = None
    ) -> AsyncIterator[models.ScheduleReport]:
        """List schedules: what each is, when it starts next, what became of its last start."""
        cursor: str | None = None
        while True:
            page = await self.list_schedules(all_=all_, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_schemas(self) -> models.SchemaKinds:
        """List the kinds of documents that have a JSON Schema."""
        found: models.SchemaKinds = await self._send("GET", "/api/v1/schemas", models.SchemaKinds)
        return found

    async def list_tokens(self) -> models.TokenList:
        """List all tokens, revoked and expired ones too."""
        found: models.TokenList = await self._send("GET", "/api/v1/tokens", models.TokenList)
        return found

    async def list_versions(
        self, name: str, *, cursor: str | None = None, limit: int | None = None
    ) -> models.PageVersionObject:
        """List what a workflow was, the youngest first; of one that was removed, too."""
        found: models.PageVersionObject = await self._send(
            "GET",
            f"/api/v1/workflows/{quoted(name)}/versions",
            models.PageVersionObject,
            query={"cursor": cursor, "limit": limit},
        )
        return found

    async def each_of_versions(self, name: str, *, limit: int | None = None) -> AsyncIterator[models.VersionObject]:
        """List what a workflow was, the youngest first; of one that was removed, too."""
        cursor: str | None = None
        while True:
            page = await self.list_versions(name, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def list_webhooks(self, *, workflow: str | None = None) -> list[models.WebhookReport]:
        """List the webhooks of all workflows, or of one; their addresses are for those who may edit."""
        found: list[models.WebhookReport] = await self._send(
            "GET", "/api/v1/webhooks", list[models.WebhookReport], query={"workflow": workflow}
        )
        return found

    async def list_workflows(
        self, *, find: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> models.PageWorkflowSummary:
        """List the workflows of the workspace by name."""
        found: models.PageWorkflowSummary = await self._send(
            "GET",
            "/api/v1/workflows",
            models.PageWorkflowSummary,
            query={"find": find, "cursor": cursor, "limit": limit},
        )
        return found

    async def each_of_workflows(
        self, *, find: str | None = None, limit: int | None = None
    ) -> AsyncIterator[models.WorkflowSummary]:
        """List the workflows of the workspace by name."""
        cursor: str | None = None
        while True:
            page = await self.list_workflows(find=find, limit=limit, cursor=cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def next_starts(
        self, *, schedule: str, count: int | None = None, from_: str | None = None
    ) -> list[models.InstantReport]:
        """Tell the next starts, in UTC and in the zone of the schedule: exactly those that will be."""
        found: list[models.InstantReport] = await self._send(
            "GET",
            "/api/v1/schedules/next",
            list[models.InstantReport],
            query={"schedule": schedule, "count": count, "from": from_},
        )
        return found

    async def pause_schedule(self, body: models.Named) -> list[models.ScheduleReport]:
        """Pause a schedule, or all of a workflow: its instants are skipped, each with a row that says so."""
        found: list[models.ScheduleReport] = await self._send(
            "POST", "/api/v1/schedules/pause", list[models.ScheduleReport], body=body
        )
        return found

    async def pin_step(self, name: str, step: str, body: models.PinAsked) -> models.PinsObject:
        """Pin the output of a step: runs that are asked to use pins take it, and the step is not run."""
        found: models.PinsObject = await self._send(
            "PUT", f"/api/v1/workflows/{quoted(name)}/pins/{quoted(step)}", models.PinsObject, body=body
        )
        return found

    async def plan_replay(self, run_id: str, body: models.Replay) -> models.ReplayPlan:
        """Say what a replay would send, and what of that was sent before; nothing is started."""
        found: models.ReplayPlan = await self._send(
            "POST", f"/api/v1/runs/{quoted(run_id)}/replay/plan", models.ReplayPlan, body=body
        )
        return found

    async def poll_events(self, *, topics: str, after: str | None = None) -> models.Events:
        """Tell what went on since the last time, at once: for who has no connection to spare for a stream."""
        found: models.Events = await self._send(
            "GET", "/api/v1/events/poll", models.Events, query={"topics": topics, "after": after}
        )
        return found

    async def preview_expression(self, body: models.PlaceAsked) -> models.Preview:
        """Tell what a field comes to with the data of a run, with pinned outputs, or with examples."""
        found: models.Preview = await self._send("POST", "/api/v1/expressions/preview", models.Preview, body=body)
        return found

    async def probe_connection(self, name: str, *, type_: str | None = None) -> models.TestObject:
        """Speak to the other side of a connection and tell what was proved; nothing is sent or changed there."""
        found: models.TestObject = await self._send(
            "POST", f"/api/v1/connections/{quoted(name)}/test", models.TestObject, query={"type": type_}
        )
        return found

    async def purge_runs(self, body: models.Purge) -> models.Purged:
        """Remove runs that ended long ago, with their records and files. What guards against repetition stays."""
        found: models.Purged = await self._send("POST", "/api/v1/runs/purge", models.Purged, body=body)
        return found

    async def remove_connection(self, name: str, *, force: bool | None = None) -> None:
        """Remove a connection that is kept here. One that workflows use is not removed, unless that is asked for."""
        await self._send("DELETE", f"/api/v1/connections/{quoted(name)}", None, query={"force": force})

    async def remove_workflow(self, name: str, *, if_match: str | None = None) -> None:
        """Remove a workflow, its layout and its pins; its versions stay, and one of them can be restored."""
        await self._send("DELETE", f"/api/v1/workflows/{quoted(name)}", None, headers={"if-match": if_match})

    async def rename_workflow(
        self, name: str, body: models.RenameAsked, *, if_match: str | None = None
    ) -> models.WorkflowObject:
        """Give a workflow another name, its file and the `name` in it; layout and pins go with it."""
        found: models.WorkflowObject = await self._send(
            "POST",
            f"/api/v1/workflows/{quoted(name)}/rename",
            models.WorkflowObject,
            headers={"if-match": if_match},
            body=body,
        )
        return found

    async def replace_workflow(
        self, name: str, body: models.TextAsked, *, if_match: str | None = None
    ) -> models.WorkflowObject:
        """Keep a whole new text of a workflow, whatever is wrong with it: its problems are answered."""
        found: models.WorkflowObject = await self._send(
            "PUT", f"/api/v1/workflows/{quoted(name)}", models.WorkflowObject, headers={"if-match": if_match}, body=body
        )
        return found

    async def replay_run(self, run_id: str, body: models.Replay) -> models.RunSummary:
        """Repeat a run from a step on, as a new run that inherits what was done before it."""
        found: models.RunSummary = await self._send(
            "POST", f"/api/v1/runs/{quoted(run_id)}/replay", models.RunSummary, body=body
        )
        return found

    async def rerun_run(self, run_id: str, body: models.Rerun) -> models.RunSummary:
        """Do all of a run once more, as a new run: the same document, the same inputs unless they are edited."""
        found: models.RunSummary = await self._send(
            "POST", f"/api/v1/runs/{quoted(run_id)}/rerun", models.RunSummary, body=body
        )
        return found

    async def restore_version(self, name: str, number: int, *, if_match: str | None = None) -> models.WorkflowObject:
        """Make a workflow what it was in a version; that becomes a version, too. One that was removed needs no If-Match."""
        found: models.WorkflowObject = await self._send(
            "POST",
            f"/api/v1/workflows/{quoted(name)}/versions/{quoted(number)}/restore",
            models.WorkflowObject,
            headers={"if-match": if_match},
        )
        return found

    async def resume_run(self, run_id: str) -> models.RunSummary:
        """Make a run ready for a worker that is parked, or whose process is gone; one that waits goes on by itself."""
        found: models.RunSummary = await self._send("POST", f"/api/v1/runs/{quoted(run_id)}/resume", models.RunSummary)
        return found

    async def resume_schedule(self, body: models.Named) -> list[models.ScheduleReport]:
        """Resume a schedule, or all of a workflow, with the next instant. Those of the pause are not made up for."""
        found: list[models.ScheduleReport] = await self._send(
            "POST", "/api/v1/schedules/resume", list[models.ScheduleReport], body=body
        )
        return found

    async def revoke_token(self, id_: str) -> models.TokenFacts:
        """Revoke a token, at once; sessions that were made of it end with it."""
        found: models.TokenFacts = await self._send("DELETE", f"/api/v1/tokens/{quoted(id_)}", models.TokenFacts)
        return found

    async def rotate_webhook(self, workflow: str, name: str, body: models.Rotation) -> models.WebhookReport:
        """Give a webhook another address; the old one ends, at once unless it is said otherwise."""
        found: models.WebhookReport = await self._send(
            "POST", f"/api/v1/webhooks/{quoted(workflow)}/{quoted(name)}/rotate", models.WebhookReport, body=body
        )
        return found

    async def save_layout(self, name: str, body: models.LayoutAsked) -> models.LayoutObject:
        """Keep where things stand on the canvas. The document is not touched, and the last one who says it counts."""
        found: models.LayoutObject = await self._send(
            "PUT", f"/api/v1/workflows/{quoted(name)}/layout", models.LayoutObject, body=body
        )
        return found

    async def show_action(self, action: str) -> models.ActionDetail:
        """Show what an action takes and returns: its manifest in full, its schemas, and a step to paste."""
        found: models.ActionDetail = await self._send("GET", f"/api/v1/actions/{quoted(action)}", models.ActionDetail)
        return found

    async def show_budget(self, workflow: str) -> models.WorkflowBudgetHistory:
        """Show the caps of a workflow, and what its last runs have taken."""
        found: models.WorkflowBudgetHistory = await self._send(
            "GET", f"/api/v1/budgets/{quoted(workflow)}", models.WorkflowBudgetHistory
        )
        return found

    async def show_connection(self, name: str, *, type_: str | None = None) -> models.ConnectionDetail:
        """Show what a connection says: all but its secrets, of which only it is told that they are there."""
        found: models.ConnectionDetail = await self._send(
            "GET", f"/api/v1/connections/{quoted(name)}", models.ConnectionDetail, query={"type": type_}
        )
        return found

    async def show_connection_type(self, type_: str, *, by: str | None = None) -> models.ConnectionTypeObject:
        """Show a type of connection with the fields of its form."""
        found: models.ConnectionTypeObject = await self._send(
            "GET", f"/api/v1/connection-types/{quoted(type_)}", models.ConnectionTypeObject, query={"by": by}
        )
        return found

    async def show_language(self) -> models.Language:
        """List all filters, tests, methods, statements and keywords of expressions."""
        found: models.Language = await self._send("GET", "/api/v1/expressions/reference", models.Language)
        return found

    async def show_layout(self, name: str) -> models.LayoutObject:
        """Show where things stand on the canvas."""
        found: models.LayoutObject = await self._send(
            "GET", f"/api/v1/workflows/{quoted(name)}/layout", models.LayoutObject
        )
        return found

    async def show_mail(self, mail: str) -> models.WholeMail:
        """Show a mail: its headers, its text, its HTML made harmless, and what is attached."""
        found: models.WholeMail = await self._send("GET", f"/api/v1/outbox/{quoted(mail)}", models.WholeMail)
        return found

    async def show_provider(self, provider: str) -> models.ProviderDetail:
        """Show a provider and what its connections need."""
        found: models.ProviderDetail = await self._send(
            "GET", f"/api/v1/providers/{quoted(provider)}", models.ProviderDetail
        )
        return found

    async def show_run(self, run_id: str) -> models.RunReport:
        """Show a run: its steps, when each was at work, and what each attempt was given, gave, took and cost."""
        found: models.RunReport = await self._send("GET", f"/api/v1/runs/{quoted(run_id)}", models.RunReport)
        return found

    async def show_schedule(self, *, schedule: str, limit: int | None = None) -> list[models.ScheduleHistory]:
        """Show one schedule, or all of a workflow, with what became of the last starts."""
        found: list[models.ScheduleHistory] = await self._send(
            "GET",
            "/api/v1/schedules/history",
            list[models.ScheduleHistory],
            query={"schedule": schedule, "limit": limit},
        )
        return found

    async def show_schema(self, kind: str) -> dict[str, Any]:
        """Show the JSON Schema of a kind of document, for completion and checks in editors."""
        found: dict[str, Any] = await self._send("GET", f"/api/v1/schemas/{quoted(kind)}", dict[str, Any])
        return found

    async def show_session(self) -> models.Me:
        """Tell who asks, and what that one may do."""
        found: models.Me = await self._send("GET", "/api/v1/session", models.Me)
        return found

    async def show_steps(self, run_id: str, *, path: str) -> list[models.StepReport]:
        """Show one step whole, or all turns of it."""
        found: list[models.StepReport] = await self._send(
            "GET", f"/api/v1/runs/{quoted(run_id)}/steps", list[models.StepReport], query={"path": path}
        )
        return found

    async def show_timeline(self, run_id: str) -> models.Timeline:
        """Show when each step and each attempt of a run was at work, and what it used."""
        found: models.Timeline = await self._send("GET", f"/api/v1/runs/{quoted(run_id)}/timeline", models.Timeline)
        return found

    async def show_version(self, name: str, number: int) -> models.VersionText:
        """Show the text of a version."""
        found: models.VersionText = await self._send(
            "GET", f"/api/v1/workflows/{quoted(name)}/versions/{quoted(number)}", models.VersionText
        )
        return found

    async def show_workflow(self, name: str, *, if_none_match: str | None = None) -> models.WorkflowObject:
        """Show a workflow: its text, its model, its steps with their places, and all that is wrong with it."""
        found: models.WorkflowObject = await self._send(
            "GET", f"/api/v1/workflows/{quoted(name)}", models.WorkflowObject, headers={"if-none-match": if_none_match}
        )
        return found

    async def start_run(self, body: models.Start, *, idempotency_key: str | None = None) -> models.RunSummary:
        """Start a run, or a part of one: accepted and durable when this answers. A worker goes on with it."""
        found: models.RunSummary = await self._send(
            "POST",
            "/api/v1/runs",
            models.RunSummary,
            headers={"Idempotency-Key": idempotency_key},
            body=body,
            once_key="Idempotency-Key",
        )
        return found

    async def summarise_run(self, run_id: str) -> models.RunSummary:
        """Show a run as lists do, without its steps."""
        found: models.RunSummary = await self._send("GET", f"/api/v1/runs/{quoted(run_id)}/summary", models.RunSummary)
        return found

    async def sync_schedules(self, body: models.Sync | None = None) -> models.SyncReport:
        """Bring the schedules to what the enabled workflows of the workspace say, as a worker does by itself."""
        found: models.SyncReport = await self._send("POST", "/api/v1/schedules/sync", models.SyncReport, body=body)
        return found

    async def try_connection(self, body: models.TestAsked) -> models.TestObject:
        """Try out the values of a connection before they are kept."""
        found: models.TestObject = await self._send("POST", "/api/v1/connections/test", models.TestObject, body=body)
        return found

    async def unpin_step(self, name: str, step: str) -> models.PinsObject:
        """Take away the pin of a step."""
        found: models.PinsObject = await self._send(
            "DELETE", f"/api/v1/workflows/{quoted(name)}/pins/{quoted(step)}", models.PinsObject
        )
        return found

    async def validate_documents(self, body: models.ValidationAsked) -> models.Validation:
        """Say all that is wrong with documents, each fault with its place. Nothing is saved, nothing is run."""
        found: models.Validation = await self._send("POST", "/api/v1/validate", models.Validation, body=body)
        return found

    async def verify_audit(self, *, noted: str | None = None) -> models.AuditReport:
        """Follow the chain of hashes from the first entry to the last, and tell every break."""
        found: models.AuditReport = await self._send(
            "GET", "/api/v1/audit/verification", models.AuditReport, query={"noted": noted}
        )
        return found
