"""The how-to does what it says: its shell blocks run, in order, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tsctl.commands.pack import PackRequest, pack

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "examples" / "digits"
PORTS = ("8080", "8081", "8082", "7070", "7071")
SCRIPT_S = 240


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def with_free_ports(page: str) -> str:
    """The page as it would read on a machine where those ports are taken."""
    with ExitStack() as stack:
        for port in PORTS:
            free = stack.enter_context(socket.socket())
            free.bind(("127.0.0.1", 0))
            page = re.sub(rf"\b{port}\b", str(free.getsockname()[1]), page)
    return page


def test_a_torchserve_user_moves_as_the_page_says(tmp_path: Path) -> None:
    page = with_free_ports((ROOT / "docs" / "from-torchserve.md").read_text())
    (properties,) = blocks(page, "properties")
    (tmp_path / "config.properties").write_text(properties)
    shutil.copytree(DIGITS, tmp_path / "sources")
    shutil.copy(next((DIGITS / "images").glob("*_3.png")), tmp_path / "digit.png")
    request = PackRequest(
        model_name="digits",
        handler=str(DIGITS / "handler.py"),
        model_file=DIGITS / "model.py",
        serialized_file=DIGITS / "digits.pt",
        config_file=DIGITS / "model-config.yaml",
        export_path=tmp_path / "model_store",
    )
    request.export_path.mkdir()
    pack(request)
    temporary = tmp_path / "t"
    temporary.mkdir()
    commands = Path(sys.executable).parent
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
    }
    # Whatever happens, nothing stays: the command stops what it has started.
    farewell = 'trap "torchserve --stop --foreground; jobs -p | xargs -r kill" EXIT\n'
    script = "set -euo pipefail\n" + farewell + "\n".join(blocks(page, "sh"))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SCRIPT_S,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said
    assert "number_of_netty_threads" in said
    assert 'ts_inference_requests_total{model_name="digits"' in said
    assert '"modelName": "digits"' in said
    assert "digits2" in said
    # The prediction of the first server, and that of the second one.
    assert said.count('"digit": 3') == 2


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
