"""The record of runs: the only truth about what happened."""
