"""Actions whose outcome follows from their arguments and the number of the attempt, for the simulation."""
