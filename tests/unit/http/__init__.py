"""http/ as bytes against a fake transport: no socket, no loop, no time of its own."""
