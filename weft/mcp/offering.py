"""Which tools there are: the workflows that say so, the actions that are allowed, and two of our own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from weft import arguments, wording
from weft.documents.base import source_of
from weft.errors import InvalidInputs, NotFound, Problem, WeftError, Where
from weft.manifest import Manifest
from weft.mcp import tools
from weft.mcp.one_step import document_of
from weft.mcp.tools import CONNECTION, Tool
from weft.plan import Plan
from weft.runtime import Runtime
from weft.survey import survey
from weft.types import JsonObject
from weft.workspace import McpAction

_LOG = logging.getLogger("weft.mcp")

GET_RUN: Final = Tool(
    "get_run",
    "own",
    "Get a Run",
    "Return how a run stands that was started by a tool here, and its outputs once it has succeeded.",
    {
        "type": "object",
        "properties": {
            "run_id": {"type": "string", "description": "As the tool that started it has answered.", "maxLength": 64},
            "wait_s": {
                "type": "number",
                "description": "Wait up to so many seconds for its end.",
                "minimum": 0,
                "maximum": 300,
                "default": 0,
            },
        },
        "required": ["run_id"],
        "additionalProperties": False,
    },
    tools.answer_schema(),
    tools.Hints(read_only=True, destructive=False, idempotent=True, open_world=False),
)
CANCEL_RUN: Final = Tool(
    "cancel_run",
    "own",
    "Cancel a Run",
    "Ask a run to stop that was started by a tool here. What cannot be taken back is waited for; steps that tidy up run.",
    {
        "type": "object",
        "properties": {"run_id": {"type": "string", "description": "The run to stop.", "maxLength": 64}},
        "required": ["run_id"],
        "additionalProperties": False,
    },
    tools.answer_schema(),
    tools.Hints(read_only=False, destructive=True, idempotent=True, open_world=False),
)
OWN: Final = {tool.name: tool for tool in (GET_RUN, CANCEL_RUN)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be started."""

    plan: Plan
    inputs: JsonObject
    alone: bool = False  #: it is an action's: its output stands for the outputs


class Offering:
    """The tools of a workspace.

    Args:
        runtime: Where they run.
        actions: Those that are allowed.

    Raises:
        NotFound: An action is allowed that there is not.
    """

    def __init__(self, runtime: Runtime, actions: Sequence[McpAction]) -> None:
        self._runtime = runtime
        self._actions: dict[str, tuple[Manifest, McpAction]] = {
            each.id: (runtime.registry.action(each.id).manifest, each) for each in actions
        }
        self._known: dict[
            str, tuple[str, Tool | None]
        ] = {}  #: name of a document → its etag, and its tool if it is one

    async def tools(self) -> Mapping[str, Tool]:
        """Return all tools by name; a workflow goes before an action of the same name."""
        found: dict[str, Tool] = {}
        for tool in (*OWN.values(), *await self._workflows(), *self._of_actions()):
            found.setdefault(tool.name, tool)
        return dict(sorted(found.items()))

    async def prepare(self, name: str, given: JsonObject) -> Prepared:
        """Check a call.

        Raises:
            NotFound: There is no such tool (`unknown_tool`).
            InvalidInputs: The arguments do not fit.
            InvalidDocument: The workflow has faults.
        """
        tool = (await self.tools()).get(name)
        if tool is None or tool.kind == "own":
            raise await self._unknown(name)
        if tool.kind == "action":
            return self._action_call(name, given)
        planned = await self._runtime.plan_of(name)
        if not planned.workflow.expose:  # changed a moment ago
            raise await self._unknown(name)
        return Prepared(planned, self._runtime.inputs(planned, given))

    async def _unknown(self, name: str) -> NotFound:
        known = await self.tools()
        remedy = wording.meant(name, known) or f"There are: {', '.join(known)}."
        return NotFound(f"There is no tool {name!r}.", code="unknown_tool", remedy=remedy)

    # ---- workflows
    async def _workflows(self) -> Sequence[Tool]:
        listed = await self._runtime.documents.list()
        for facts in listed:
            known = self._known.get(facts.name)
            if known is None or known[0] != facts.etag:
                self._known[facts.name] = (facts.etag, await self._of_document(facts.name))
        names = {facts.name for facts in listed}
        self._known = {name: kept for name, kept in self._known.items() if name in names}
        return [tool for _, tool in self._known.values() if tool is not None]

    async def _of_document(self, name: str) -> Tool | None:
        """Return the tool of a document; None when it is not exposed, or has faults."""
        try:
            document = await self._runtime.documents.peek(name)
            if "expose" not in document.text:
                return None
            found = survey(source_of(document))
            if found.workflow is None or not found.workflow.expose:
                return None
            return tools.of_workflow(await self._runtime.plan_of(name))
        except WeftError as error:
            _LOG.warning("workflow_not_offered %s %s", name, error.problem.code)
            return None

    # ---- actions
    def _of_actions(self) -> Sequence[Tool]:
        found = []
        for manifest, allowed in self._actions.values():
            names = self._connections(manifest, allowed)
            if manifest.connection is None or names:
                found.append(tools.of_action(manifest, names))
        return found

    def _connections(self, manifest: Manifest, allowed: McpAction) -> Sequence[str]:
        """Return the connections that an action may be used with here."""
        wanted = manifest.connection
        if wanted is None:
            return ()
        if allowed.connections is not None:
            return [name for name in allowed.connections if self._runtime.connections.facts(name, wanted) is not None]
        listed = self._runtime.connections.listed()
        return list(dict.fromkeys(each.facts.name for each in listed if each.facts.type == wanted))

    def _action_call(self, name: str, given: JsonObject) -> Prepared:
        manifest, allowed = self._actions[name]
        values: JsonObject = {key: value for key, value in given.items() if value is not None}
        problems: list[Problem] = []
        connection = None
        if manifest.connection is not None:
            connection = values.pop(CONNECTION, None)
            names = self._connections(manifest, allowed)
            if not isinstance(connection, str) or connection not in names:
                remedy = f"Give one of: {', '.join(names)}."
                problems.append(
                    Problem("unknown_connection", "'connection' names no account.", remedy, Where(field=CONNECTION))
                )
        parameters = [each for each in manifest.all_parameters if not each.secret]
        problems += arguments.check(parameters, values)
        if problems:
            raise InvalidInputs(problems=problems)
        assert connection is None or isinstance(connection, str)  # noqa: S101  checked above, for the type checker
        planned = self._runtime.compile_source(document_of(manifest, values, connection))
        return Prepared(planned, {}, alone=True)
