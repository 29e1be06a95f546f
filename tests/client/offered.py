"""Workflows of the server that clients ask."""

from __future__ import annotations

GREET = """
name: greet
inputs:
  who: {type: string, required: true}
  times: {type: integer, default: 1}
budget: {steps: 10, time: 1h, day: {steps: 1000}}
steps:
  - {id: say, uses: set_values, with: {values: {text: "Hello {{ inputs.who }} {{ inputs.times }}"}}}
outputs: {text: "{{ steps.say.output.text }}"}
"""
SLOW = """
name: slow
steps: [{id: rest, wait: {for: 60s}}]
"""
ASKS = """
name: asks
steps: [{id: ok, approval: {message: May I?}}]
"""
CLOCK = """
name: clock
enabled: true
on: {schedule: [{cron: "0 8 * * *", timezone: Europe/Zurich}]}
steps: [{id: say, uses: log, with: {message: hello}}]
"""
FAILS = """
name: fails
steps: [{id: stop, uses: fail, with: {message: The stars are wrong.}}]
"""
WRONG = """
name: wrong
steps: [{id: a, uses: no_such_action}]
"""
