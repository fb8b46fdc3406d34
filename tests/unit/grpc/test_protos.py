"""The messages that are kept in git are those of the .proto files."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).parents[3]
PROTOS = sorted((ROOT / "tsd/grpc/protos").glob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_make_proto_would_change_nothing(
    proto: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    googles = Path(protoc.__file__).parent / "_proto"
    name = proto.relative_to(ROOT)
    assert protoc.main(["protoc", "-I.", f"-I{googles}", *out, str(name)]) == 0
    for suffix in ("_pb2.py", "_pb2.pyi"):
        made = name.with_name(name.stem + suffix)
        assert without_version(tmp_path / made) == without_version(ROOT / made)


def without_version(path: Path) -> list[str]:
    """The lines that do not say which compiler wrote them: one that is newer may differ there."""
    numbers = [line for line in path.read_text().splitlines() if line.strip().rstrip(",").isdigit()]
    lines = path.read_text().splitlines()
    return [line for line in lines if line not in numbers and "Protobuf Python Version" not in line]
