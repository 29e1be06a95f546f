"""Says who should go on with which run, and looks after the runs in hand; what is true stands in the journal."""
