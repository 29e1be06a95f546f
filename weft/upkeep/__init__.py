"""What keeps an installation in order: whether it is ready, what is wrong with it, and copies of all of it.

The modules, lowest first: `readiness` (for those who send requests), `checks` and `doctor` (for who runs it), `members`
(what belongs to a home), `backing_up` and `restoring` (the copy), `moving` (the tables beside the journal, to a database).
"""
