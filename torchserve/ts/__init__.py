"""The `ts` package outside of workers, for tests and scripts: tsd's own, from where it lies."""

from importlib.util import find_spec
from pathlib import Path

_tsd = find_spec("tsd")
assert _tsd is not None
assert _tsd.origin is not None
__path__ = [str(Path(_tsd.origin).parent / "worker" / "ts")]
__version__ = "0.12.0"
