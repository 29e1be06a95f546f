"""Workflows tried without their effects: dry runs, recorded answers, and the tests that lie beside a workflow.

    answers ──▶ rehearsed executor ──▶ the engine, over a journal in memory whose clock is moved ──▶ reports

Nothing here opens a connection. The modules, lowest first: `stand_in` (outputs made up from schemas), `wanted` (what
expressions ask of an output), `resting` (which steps rest on stand-ins), `performing` (attempts answered in the place of
the executor), `recording` (files of real answers), `simulated` (the journal whose waits pass at once), `stage` (runs a plan over these), `dry_run`, `cases`
(the documents of tests), `matching`, `testing`, `junit`.
"""
