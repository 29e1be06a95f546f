"""Starts of runs by HTTP requests: a random address and a signature, and one run for one message.

    headers ──limits──▶ body ──addresses──▶ webhook ──styles──▶ signed ──reading──▶ data ──receiving──▶ a durable run

The modules, lowest first: `requests` (what arrived), `limits` (how often, how large: before anything is looked up),
`styles` (who has signed it), `reading` (one parser for each content type), `messages` (which message it is),
`addresses` and `seen` (tables), `hooks` (from an address to what a workflow declares), `waiting` (for the end of a run),
`receiving` (all of it in order), `reporting` (for people).
"""
