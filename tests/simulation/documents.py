"""Random workflow documents, and a second, simpler reading of them.

What a document comes to follows from the document, its inputs, and the answers that people gave: an action's outcome is a
function of its arguments and the number of the attempt. So `read` can say, without the engine, what a run must come to,
which operations must be on its record, and which others may be.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from simulation.pack.actions._acting import digest

Document = dict[str, Any]
Key = tuple[str, int]
"""Path and attempt; a wait has the negative number of the attempt before it."""

Answers = Mapping[Key, "dict[str, Any] | None"]
"""Path and number of a question, or of a child run → its answer or end, None when none came in time."""


# ---- making
class Maker:
    """Makes documents of random shape from a seed.

    Args:
        rng: Where chance comes from.
        size: About how many steps.
        children: Where the documents of child workflows go; a child starts none that was made before it.
    """

    def __init__(self, rng: random.Random, size: int, *, children: dict[str, Document] | None = None) -> None:
        self._rng = rng
        self._left = size
        self._made = 0
        self.children: dict[str, Document] = {} if children is None else children
        self._unsure: list[str] = []  #: steps whose state may depend on the order of things: no condition asks for it

    def document(self) -> Document:
        """Return a document with steps, and perhaps steps for its end and its failure."""
        rng = self._rng
        inputs = {"k": {"type": "integer", "default": 0}}
        steps = self._list([], loop=False, most=8, depth=0)
        while self._left > 0:
            more = self._list([], loop=False, most=8, depth=0)
            more[0].setdefault("needs", [steps[-1]["id"]])
            steps += more
        document: Document = {"name": "random", "inputs": inputs, "steps": steps}
        document["outputs"] = {"out": [_ref(step["id"], "output") for step in steps]}
        names = self._unsure = [step["id"] for step in steps]
        if rng.random() < 0.4:
            document["finally"] = self._list(names, loop=False, most=2, depth=2, calm=True)
        if rng.random() < 0.3:
            document["on_failure"] = {"steps": self._list(names, loop=False, most=2, depth=2, calm=True)}
        elif rng.random() < 0.15:
            document["on_failure"] = {"workflow": self._child_workflow()}
        if rng.random() < 0.1:
            document["budget"] = {"time": rng.choice(["8s", "40s", "1h"])}
        return document

    def _child_workflow(self) -> str:
        """Return the name of another workflow, mostly a new one."""
        name = f"w{len(self.children) + 1}"
        self.children[name] = {}  # the name is taken
        made = Maker(self._rng, self._rng.randint(1, 5), children=self.children).document()
        made["name"] = name
        if self._rng.random() < 0.2:
            made["concurrency"] = {"key": "all", "policy": self._rng.choice(["queue", "skip"])}
        self.children[name] = made
        return name

    def _name(self) -> str:
        self._made += 1
        return f"s{self._made}"

    def _list(
        self, seen: Sequence[str], *, loop: bool, most: int, depth: int, calm: bool = False, one_by_one: bool = False
    ) -> list[Document]:
        rng = self._rng
        steps: list[Document] = []
        graph = rng.random() < 0.5 and not one_by_one  # which of several fails would depend on the order of things
        for _ in range(rng.randint(1, max(1, min(most, self._left)))):
            names = [step["id"] for step in steps]
            step: Document = {"id": self._name()}
            visible = [*seen, *names[-1:]]
            if graph and steps:
                step["needs"] = rng.sample(names, rng.randint(0, min(2, len(names))))
                visible = [*seen, *step["needs"]]
            self._left -= 1
            self._fill(step, visible, loop=loop, depth=depth, calm=calm)
            steps.append(step)
        return steps

    def _fill(self, step: Document, seen: Sequence[str], *, loop: bool, depth: int, calm: bool) -> None:
        rng = self._rng
        if rng.random() < 0.2:
            step["if"] = self._condition(seen, loop=loop)
        if rng.random() < 0.05:
            step["disabled"] = True
        kinds = ("work", "send", "group", "wait", "approval", "child")
        often = 1.2 if depth < 2 and not calm and len(self.children) < 4 else 0
        kind = rng.choices(kinds, (6, 6, 4 if depth < 2 else 0, 2, 0 if calm else 1.5, often))[0]
        turns = kind in ("work", "send", "group", "child") and not loop and rng.random() < 0.3
        if turns:
            step["for_each"] = rng.choice(["{{ range(3) | list }}", "{{ range(inputs.k) | list }}", [5, 6, 7, 8]])
            if rng.random() < 0.7:
                step["max_parallel"] = rng.randint(1, 3)
        inner = loop or turns
        if kind in ("work", "send"):
            self._act(step, kind, seen, loop=inner, calm=calm)
        else:
            self._contain(step, kind, seen, loop=inner, depth=depth, calm=calm)
        if (turns or kind not in ("work", "send")) and rng.random() < 0.2:
            step["timeout"] = rng.choice(["1s", "5s", "15s", "1h"])
        if rng.random() < 0.35:
            step["on_error"] = "continue"
            if rng.random() < 0.5 and depth < 2:
                told = [*seen, step["id"]]
                step["on_error"] = {"steps": self._list(told, loop=loop, most=2, depth=2, calm=True)}

    def _act(self, step: Document, kind: str, seen: Sequence[str], *, loop: bool, calm: bool) -> None:
        rng = self._rng
        step["uses"] = kind
        step["with"] = self._arguments(seen, loop=loop, calm=calm)
        if rng.random() < 0.3:
            step["retry"] = {"attempts": rng.randint(1, 3), "backoff": rng.choice(["1s", "3s", "8s"])}
        if kind == "send" and rng.random() < 0.2:
            step["delivery"] = "at_most_once"

    def _contain(self, step: Document, kind: str, seen: Sequence[str], *, loop: bool, depth: int, calm: bool) -> None:
        rng = self._rng
        again = kind != "wait" and rng.random() < 0.3
        if again:
            step["retry"] = self._retry()
        match kind:
            case "group":
                step["steps"] = self._list(seen, loop=loop, most=4, depth=depth + 1, calm=calm, one_by_one=again)
            case "child":
                step["uses"] = f"workflow:{self._child_workflow()}"
                step["with"] = {"k": rng.choice([0, 2, "{{ inputs.k }}"])}
            case "wait":
                step["wait"] = {"for": rng.choice(["0s", "1ms", "500ms", "3s", "20s"])}
            case _:
                step["approval"] = self._approval(seen, loop=loop, depth=depth)

    def _retry(self) -> Document:
        rng = self._rng
        return {"attempts": rng.randint(2, 3), "backoff": rng.choice(["0s", "1s", "6s"]), "jitter": rng.random() < 0.5}

    def _approval(self, seen: Sequence[str], *, loop: bool, depth: int) -> Document:
        asked: Document = {"message": "Go on?"}
        if self._rng.random() < 0.4 and depth < 2:
            asked["notify"] = self._list(seen, loop=loop, most=2, depth=2, calm=True)
            for step in asked["notify"]:
                step["on_error"] = "continue"
        if self._rng.random() < 0.7:
            asked["deadline"] = self._rng.choice(["1s", "5s", "15s"])
            if self._rng.random() < 0.6:
                asked["default"] = self._rng.choice(["approve", "reject"])
        return asked

    def _condition(self, seen: Sequence[str], *, loop: bool) -> Any:
        rng = self._rng
        forms: list[Any] = [f"inputs.k > {rng.randint(0, 3)}", True]
        if loop:
            forms.append(f"index != {rng.randint(0, 2)}")
        if seen := [name for name in seen if name not in self._unsure]:
            state = rng.choice(["succeeded", "succeeded", "failed", "skipped"])
            forms += [f"steps.{rng.choice(seen)}.state == '{state}'"] * 2
        return rng.choice(forms)

    def _arguments(self, seen: Sequence[str], *, loop: bool, calm: bool) -> Document:
        rng = self._rng
        value: list[Any] = [rng.randint(0, 9), "{{ inputs.k }}"]
        value += [_ref(name, rng.choice(["output", "output", "state"])) for name in rng.sample(seen, min(2, len(seen)))]
        if loop:
            value.append("{{ item }}")
        given: Document = {"value": value, "seconds": rng.choice([0, 0, 0.01, 0.3, 2])}
        if rng.random() < (0.1 if calm else 0.35):
            given["fails"] = rng.choice([1, 1, 2, 3, 99])
            if loop and rng.random() < 0.5:
                given["fails"] = f"{{{{ {given['fails']} if index == {rng.randint(0, 2)} else 0 }}}}"
            given["doubt"] = rng.random() < 0.4
            given["tries"] = rng.randint(1, 3)
            given["others"] = rng.choice([0, 0, 1])
            given["wait_s"] = rng.choice([0, 0.05, 1, 4])
            given["heals"] = rng.choice([0, 0, 2, 3])
        return given


def _ref(name: str, what: str) -> str:
    return f"{{{{ steps.{name}.{what} }}}}"


# ---- reading
@dataclass
class Reached:
    """Operations that are on record of every run of a part of a document, and those that may be."""

    must: set[Key] = field(default_factory=set)
    may: set[Key] = field(default_factory=set)

    def add(self, *keys: Key) -> None:
        self.must |= {*keys}
        self.may |= {*keys}


@dataclass
class Result:
    """What a step comes to."""

    state: Literal["succeeded", "failed", "skipped"]
    output: Any = None
    goes_on: bool = False
    reached: Reached = field(default_factory=Reached)
    retryable: bool = True
    doubt: bool = False

    @property
    def fails(self) -> bool:
        return self.state == "failed" and not self.goes_on


@dataclass
class Reading:
    """What a document comes to."""

    state: Literal["succeeded", "failed"]
    outputs: Any
    reached: Reached
    cancelled: Reached  #: when the run was cancelled: `must` is empty


@dataclass(frozen=True)
class Facts:
    """What a document does not say of a run of it, and its records do."""

    cut: frozenset[Key] = frozenset()  #: attempts that a crash left half done and that must not be repeated
    rang: frozenset[str] = frozenset()  #: steps whose time was up; the run's own is empty
    doubts: frozenset[str] = frozenset()  #: steps that may have had an effect, and must not have it twice
    done: frozenset[str] | None = None  #: steps that must not have their effect twice, and had it; None: as it is read


def read(document: Document, k: int, answers: Answers, facts: Facts = Facts()) -> Reading:
    """Return what a run of a document comes to.

    Args:
        document: As `Maker` makes it.
        k: The run's only input.
        answers: What people said, and what child runs came to.
        facts: What its records say besides.
    """
    reader, rang = _Reader(k, answers, facts), facts.rang
    results, reached, fails = reader.many(document["steps"], {}, {}, "")
    if "" in rang:
        reached.must, fails = {("", 0)}, True
        reached.may.add(("", 0))
        reached.may |= reader.timers
    state: Literal["succeeded", "failed"] = "failed" if fails else "succeeded"
    known = {step["id"]: results.get(step["id"], Result("skipped")) for step in document["steps"]}
    anything = Reached(may=set(reached.may))
    if "finally" in document:
        _, last, failed = reader.many(document["finally"], known, {}, "/@finally")
        reached.must |= last.must
        reached.may |= last.may
        anything.may |= last.may
        state = "failed" if failed else state
    if state == "failed" and "on_failure" in document:
        told = Reached({("/@on_failure", -1)}, {("/@on_failure", -1)})
        if "steps" in document["on_failure"]:
            _, told, _ = reader.many(document["on_failure"]["steps"], known, {}, "/@on_failure")
        reached.must |= told.must
        reached.may |= told.may
        anything.may |= told.may
    anything.may |= reader.timers | {("", 0), ("/@on_failure", -1)}
    outputs = None
    if state == "succeeded":
        outputs = {name: reader.value(value, known, {}) for name, value in document["outputs"].items()}
    return Reading(state, outputs, reached, anything)


class _Reader:
    def __init__(self, k: int, answers: Answers, facts: Facts) -> None:
        self._k = k
        self._answers = answers
        self._facts = facts
        self._sent: dict[str, Result] = {}  #: what is not to happen again was done, or may have been
        self.timers: set[Key] = set()  #: of timeouts: they end with what is around them

    # ---- expressions: only the forms that `Maker` makes
    def value(self, value: Any, seen: Mapping[str, Result], turn: Mapping[str, Any]) -> Any:
        if isinstance(value, list):
            return [self.value(item, seen, turn) for item in value]
        if not isinstance(value, str) or not value.startswith("{{"):
            return value
        return self._expression(value[2:-2].strip(), seen, turn)

    def _expression(self, text: str, seen: Mapping[str, Result], turn: Mapping[str, Any]) -> Any:
        if found := re.fullmatch(r"steps\.(\w+)\.(output|state)", text):
            return getattr(seen[found[1]], found[2])
        if found := re.fullmatch(r"steps\.(\w+)\.state == '(\w+)'", text):
            return seen[found[1]].state == found[2]
        if found := re.fullmatch(r"(\d+) if index == (\d+) else 0", text):
            return int(found[1]) if turn["index"] == int(found[2]) else 0
        if found := re.fullmatch(r"index != (\d+)", text):
            return turn["index"] != int(found[1])
        if found := re.fullmatch(r"inputs\.k > (\d+)", text):
            return self._k > int(found[1])
        if found := re.fullmatch(r"range\((\d+|inputs\.k)\) \| list", text):
            return list(range(self._k if found[1] == "inputs.k" else int(found[1])))
        return {"inputs.k": self._k, **turn}[text]

    # ---- steps
    def many(
        self, steps: Sequence[Document], seen: Mapping[str, Result], turn: Mapping[str, Any], path: str
    ) -> tuple[dict[str, Result], Reached, bool]:
        """Read steps side by side; return their results, what was reached, and whether one of them fails."""
        needs = {step["id"]: step.get("needs", [steps[i - 1]["id"]] if i else []) for i, step in enumerate(steps)}
        results: dict[str, Result] = {}
        left = list(steps)
        while ready := [
            step for step in left if all(name in results and not results[name].fails for name in needs[step["id"]])
        ]:
            for step in ready:
                left.remove(step)
                known = {**seen, **{name: results[name] for name in _before(step["id"], needs)}}
                results[step["id"]] = self.step(step, known, turn, f"{path}/{step['id']}")
        failing = [name for name, result in results.items() if result.fails]
        reached = Reached(may=set().union(*(result.reached.may for result in results.values())))
        if not failing:
            reached.must = set().union(*(result.reached.must for result in results.values()))
        else:  # any of them may have been the first, and kept others from beginning
            paths = [
                set().union(*(results[each].reached.must for each in (name, *_before(name, needs)))) for name in failing
            ]
            reached.must = set.intersection(*paths)
            for name, result in results.items():
                if not needs[name]:
                    reached.must |= result.reached.must
        return results, reached, bool(failing)

    def step(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str) -> Result:
        condition = step.get("if", True)
        if isinstance(condition, str):
            condition = self._expression(condition, seen, turn)
        if step.get("disabled") or not condition:
            return Result("skipped")
        result = self._turns(step, seen, turn, path)
        if "timeout" in step:
            self.timers.add((path, 0))
            if path in self._facts.rang:
                result = Result("failed", reached=Reached({(path, 0)}, result.reached.may | self.timers))
        if result.state == "failed" and "on_error" in step:
            result.goes_on = True
            if isinstance(step["on_error"], dict):
                told = {**seen, step["id"]: result}
                _, reached, fails = self.many(step["on_error"]["steps"], told, turn, f"{path}/@on_error")
                result.reached.must |= reached.must
                result.reached.may |= reached.may
                result.goes_on = not fails
        return result

    def _turns(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str) -> Result:
        if "for_each" not in step:
            return self._tries(step, seen, turn, path)
        items = self.value(step["for_each"], seen, turn)
        most = step.get("max_parallel") or len(items)
        results = [self._tries(step, seen, {"item": item, "index": i}, f"{path}[{i}]") for i, item in enumerate(items)]
        first = next((i for i, result in enumerate(results) if result.fails), None)
        if first is None:
            outputs = [result.output for result in results]
            return Result("succeeded", outputs, reached=_together(results))
        sure, possible = _together(results[: first + 1 if most == 1 else most]), _together(results)
        if most == 1:
            possible = sure
        failed = results[first] if first is not None else Result("failed")
        return Result("failed", reached=Reached(sure.must, possible.may), retryable=failed.retryable)

    def _tries(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str) -> Result:
        """Read a step whose every try is a whole one."""
        of_its_own = step.get("uses") in ("work", "send") or "retry" not in step
        most = 1 if of_its_own else step["retry"]["attempts"]
        reached = Reached()
        for k in range(1, most + 1):
            if k > 1 and step["retry"]["backoff"] != "0s":
                reached.add((f"{path}/@{k}", 0))
            result = self._once(step, seen, turn, path, k)
            reached.must |= result.reached.must
            reached.may |= result.reached.may
            if not result.fails or not result.retryable or result.doubt or self._is_in_doubt(path, k):
                break
        result.reached = reached
        return result

    def _is_in_doubt(self, path: str, k: int) -> bool:
        """Tell whether something that must not happen twice may have happened in the first k tries."""
        later = tuple(f"{path}/@{j}/" for j in range(k + 1, 10))
        inside = (each for each in self._facts.doubts if each.startswith((f"{path}/", f"{path}[")))
        return any(not each.startswith(later) for each in inside)

    def _once(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str, k: int) -> Result:
        if step.get("uses") in ("work", "send"):
            return self._attempts(step, seen, turn, path)
        if "uses" in step:
            return self._child(path, k)
        inside = path if k == 1 else f"{path}/@{k}"
        if "steps" in step:
            return self._group(step, seen, turn, inside)
        result = Result("succeeded")
        result.reached.add((path, -k))
        if "approval" in step:
            self._ask(step["approval"], self._answers.get((path, -k)), result)
            if "notify" in step["approval"]:
                _, told, _ = self.many(step["approval"]["notify"], seen, turn, f"{inside}/@notify")
                result.reached.may |= told.may  # what has not begun when somebody answers does not begin
        return result

    def _group(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str) -> Result:
        results, reached, fails = self.many(step["steps"], seen, turn, path)
        if not fails:
            return Result("succeeded", results[step["steps"][-1]["id"]].output, reached=reached)
        failed = next(
            results[each["id"]] for each in step["steps"] if each["id"] in results and results[each["id"]].fails
        )
        return Result("failed", reached=reached, retryable=failed.retryable)

    @staticmethod
    def _ask(approval: Document, answer: dict[str, Any] | None, result: Result) -> None:
        default = approval.get("default")
        if answer is None and default is not None:
            answer = {"answer": default, "by": None, "how": "deadline", "comment": None, "at": None}
        result.output = answer
        if answer is None or answer["answer"] != "approve":
            result.state, result.retryable = "failed", answer is None

    def _child(self, path: str, k: int) -> Result:
        """A child run comes to what is on record of it; it is read by itself. One that has sent once is kept."""
        origin = re.sub(r"/@\d+", "", path)
        if origin in self._sent:
            return replace(self._sent[origin], reached=Reached())
        end = self._answers.get((path, -k)) or {"state": "cancelled"}
        result = Result("succeeded", reached=Reached({(path, -k)}, {(path, -k)}))
        match end["state"]:
            case "succeeded":
                result.output = end["result"]["outputs"]
            case "skipped":
                result.state = "skipped"
            case state:
                result.state, result.retryable = "failed", state == "failed"
                result.doubt = any((end.get("result") or {}).get(each) for each in ("doubt", "sent_once"))
        if result.state == "succeeded" and end["result"].get("sent_once"):
            self._sent[origin] = result
        return result

    def _attempts(self, step: Document, seen: Mapping[str, Result], turn: Mapping[str, Any], path: str) -> Result:
        given = {name: self.value(value, seen, turn) for name, value in step["with"].items()}
        origin = re.sub(r"/@\d+", "", path)
        if origin in self._sent:
            return replace(self._sent[origin], reached=Reached())
        if given.get("heals") and max(map(int, re.findall(r"/@(\d+)", path)), default=1) >= given["heals"]:
            given["fails"] = 0
        result = self._chain(step, given, path)
        if step["uses"] == "send" and step.get("delivery") == "at_most_once":
            result.doubt = result.doubt and result.fails
            done = self._facts.done
            if done is None and (result.state == "succeeded" or result.doubt):
                self._sent[origin] = result
            elif done is not None and path in done | self._facts.doubts:
                self._sent[origin] = result if path in done else Result("failed", retryable=False, doubt=True)
        return result

    def _chain(self, step: Document, given: Mapping[str, Any], path: str) -> Result:
        tries = step["retry"]["attempts"] if "retry" in step else given.get("tries", 1)
        once = step.get("delivery") == "at_most_once" and given.get("doubt")
        reached, n = Reached(), 0
        for variant in range(1 + given.get("others", 0)):
            for tried in range(1, tries + 1):
                n += 1
                reached.add((path, n))
                if (path, n) in self._facts.cut:
                    return self._asked(given, path, n, variant, reached)
                if n > given.get("fails", 0):
                    output = {"value": digest(given["value"]), "by": f"v{variant}"}
                    return Result("succeeded", output, reached=reached)
                if once:
                    return self._asked(given, path, n, variant, reached)
                if tried < tries:
                    reached.add((path, -n))
        return Result("failed", reached=reached)

    def _asked(self, given: Mapping[str, Any], path: str, n: int, variant: int, reached: Reached) -> Result:
        """Somebody is asked whether what is in doubt is to be sent again, each time that it is."""
        while True:
            reached.add((path, -n))
            if (self._answers.get((path, -n)) or {}).get("answer") != "approve":
                retryable = (path, n) not in self._facts.cut
                return Result("failed", reached=reached, retryable=retryable, doubt=True)
            n += 1
            reached.add((path, n))
            if (path, n) not in self._facts.cut and n > given.get("fails", 0):
                output = {"value": digest(given["value"]), "by": f"v{variant}"}
                return Result("succeeded", output, reached=reached)


def _before(name: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    todo = list(needs[name])
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo += needs[each]
    return found


def _together(results: Iterable[Result]) -> Reached:
    reached = Reached()
    for result in results:
        reached.must |= result.reached.must
        reached.may |= result.reached.may
    return reached


# ---- causes
def without_tries(path: str) -> str:
    """Return a path without the tries of its groups."""
    return re.sub(r"/@\d+", "", path)


def depends(document: Document, path: str, other: str) -> bool:
    """Tell whether a step must not begin before what the other one came to is on record."""
    if ("@notify" in path) != ("@notify" in other):
        return False  # told beside the question
    lists = {"": document["steps"], "/@finally": document.get("finally", [])}
    lists["/@on_failure"] = document.get("on_failure", {}).get("steps", [])
    path, other = without_tries(path), without_tries(other)
    if path.startswith("/@"):
        head = "/" + path.split("/")[1]
        if not other.startswith(head):
            return True
    else:
        head = ""
    if path == other:
        return True
    return _depends(lists[head], path[len(head) :], other[len(head) :])


def _depends(steps: Sequence[Document], path: str, other: str) -> bool:
    """The same for two paths from one list of steps."""
    mine, _, inside = path[1:].partition("/")
    its, _, beside = other[1:].partition("/")
    by_id = {step["id"]: step for step in steps}
    name, its_name = mine.split("[")[0], its.split("[")[0]
    if name != its_name:
        needs = {step["id"]: step.get("needs", [steps[i - 1]["id"]] if i else []) for i, step in enumerate(steps)}
        return its_name in _before(name, needs)
    if inside.startswith("@on_error/"):
        if not beside.startswith("@on_error/"):
            return True
        told = by_id[name]["on_error"]["steps"]
        return _depends(told, inside[len("@on_error") :], beside[len("@on_error") :])
    if inside.startswith("@notify/") and beside.startswith("@notify/") and mine == its:
        told = by_id[name]["approval"]["notify"]
        return _depends(told, inside[len("@notify") :], beside[len("@notify") :])
    if not inside or not beside or mine != its or "steps" not in by_id[name]:
        return path == other
    return _depends(by_id[name]["steps"], f"/{inside}", f"/{beside}")
