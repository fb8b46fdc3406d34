"""Completions of `tsctl` and `tsd` for bash, zsh and fish, made from their own parsers.

`python packaging/completions/generate.py [FOLDER]` writes them, beside this file unless told; a
unit test fails where those here are not what it would write."""

from __future__ import annotations

import sys
from pathlib import Path

import bash
import fish
import zsh
from commands import programs

PLACES = {
    "bash/{}": bash.completion,
    "zsh/_{}": zsh.completion,
    "fish/{}.fish": fish.completion,
}


def main(folder: Path) -> None:
    """Write all files."""
    for program in programs():
        for place, completion in PLACES.items():
            path = folder / place.format(program.name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(completion(program))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
