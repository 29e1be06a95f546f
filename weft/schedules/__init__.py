"""Schedules: what starts runs by the clock, and a row for every instant of each."""
