"""The parts of tsctl bench, without a daemon."""
