"""Servers that a newcomer does not have: a local model and a mailbox, on loopback, stopped with the process."""
