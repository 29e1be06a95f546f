"""Actions that misbehave on demand, for tests of the engine."""
