"""Actions that leave a line behind when they begin and when they end, for the fault suite."""
