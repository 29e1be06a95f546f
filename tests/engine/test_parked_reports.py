"""What the report of a parked run says of what is still to come."""

from __future__ import annotations

import dataclasses
import json

from weft.engine.report import report_of
from weft.errors import Problem

STUCK = json.dumps(dataclasses.asdict(Problem("stuck", "It is held.")))


async def test_b9_a_parked_run_says_that_finally_is_still_to_come(lab):
    """B9: its steps are told as pending beside the others; of a run that goes on, `finally` is told when it begins."""
    planned = lab.plan(
        """
        name: held
        steps: [{id: a, uses: deliver, with: {to: a}}, {id: b, uses: deliver, with: {to: b}}]
        finally: [{id: tidy, uses: echo, with: {value: 1}}]
        """
    )
    await lab.start(planned, run_id="r")
    kept = await lab.journal.load("r")
    told = {}
    for state, reason in (("parked", STUCK), ("running", None)):
        status = dataclasses.replace(kept.status, state=state, reason=reason, result=None)
        cut = dataclasses.replace(kept, records=kept.records[:2], status=status)
        told[state] = {step.path: step.state for step in report_of(cut, planned).steps}

    assert told["parked"] == {**told["running"], "/@finally/tidy": "pending"}
    assert told["running"]["/a"] == "succeeded"
    assert "/@finally/tidy" not in told["running"]
