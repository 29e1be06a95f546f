"""Workflows and actions as tools of an agent, over the Model Context Protocol.

    documents, manifests ──offering──▶ `Tool` ──calling──▶ a durable run ──▶ its answer
                                         └──▶ serving: the protocol, by the official SDK ──▶ stdio or http

The modules, lowest first: `tools` (what a tool looks like), `one_step` (an action's call as a workflow), `offering`
(which tools there are), `calling` (what a call does), `serving` (the protocol), `stdio` and `http` (its two ways).
Only `serving`, `stdio` and `http` import the SDK, which costs 0.7 s.
"""
