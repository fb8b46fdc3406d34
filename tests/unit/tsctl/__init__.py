"""The parts of tsctl that need no daemon."""
