"""Other servers, asked the same as tsd in the same run.

Each lives in a virtual environment of its own, which is made when it is first needed."""
