"""No process, no socket, no torch: mirrors tsd/ file by file."""
