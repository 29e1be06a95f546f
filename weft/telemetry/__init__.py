"""What this process tells others of its runs while they go on: traces, metrics, and a log that programs can read.

    runs ─▶ Driver.watchers ─┬─▶ tracing  (a span for each run, step and attempt) ─▶ OpenTelemetry, in the background
                             ├─▶ counting (what was done here)  ┐
    journal ─────────────────┼─▶ standing (what is true for all) ┴─▶ Prometheus, when it asks
                             └─▶ telling  (a line of JSON for each event) ─▶ standard error

The modules, lowest first: `identity` (the ids of traces and spans), `completions` (what a model's answer says of itself),
`events` (the names in the log), `lines` and `telling` (the log), `counting`, `standing` and `requests` (metrics),
`exporting` and `tracing` (spans), and `switches` (what of it is on). OpenTelemetry and Prometheus are imported only where
they are switched on.
"""

from weft.telemetry.switches import Telemetry, start

__all__ = ["Telemetry", "start"]
