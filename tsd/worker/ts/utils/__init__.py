"""Label files and the exception with a status."""
