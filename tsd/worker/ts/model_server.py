"""`ts.model_server.start()`: the command `torchserve`, which is in a distribution of its own."""

import runpy


def start() -> None:
    """Do what the command line of this process says, as `torchserve` would; ends the process."""
    runpy.run_module("tsd_torchserve", run_name="__main__")


if __name__ == "__main__":
    start()
