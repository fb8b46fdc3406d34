"""`make bench`: what tsd costs beside a bare server, beside the model itself, and beside recv.

All of it runs on one machine in one run, interleaved, so that the ratios hold where the absolute
figures do not. What is asked is in workloads.py, who is asked in servers.py and
daemon.py, what must come of it in goals.py; README.md says how it is measured."""
