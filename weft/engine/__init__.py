"""Runs: what comes next, and the loop that makes it happen."""
