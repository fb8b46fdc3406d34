"""The operator's client of the daemon; standard library only."""
