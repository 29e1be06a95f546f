"""Money has a brake, and connections have limits.

    budget (workflow, step, workspace) ─▶ caps ─┐
    fields of the connection ─▶ limits ─────────┴─▶ Meters ─▶ journal.hold ─▶ the attempt ─▶ Settled

What an attempt may use up at most is reserved in the same transaction that puts its begin on record, and is set to what
it has really used up in the one that holds its outcome. The modules, lowest first: `units` (whole numbers), `keys` (what
counts together), `caps` (of budgets), `limits` (of connections), `asking` (what an action says of itself) and `brake`
(all of it, for the engine). `standing` says how much is left.
"""

from weft.budgets.brake import Budgets

__all__ = ["Budgets"]
