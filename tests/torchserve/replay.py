"""Ask a server what TorchServe 0.12.0 was asked, and say where its answers differ.

    python -m tests.torchserve.replay --launch 'torchserve --start --foreground --ncs \\
        --model-store {store} --ts-config {config}' [SECTION ...]

A section is a file in cases/: a configuration and steps, sent in order to a server started for it.
A step has a `label`, or is `setup` (asked, not judged). `at` names the port; then `request`,
`headers` and `body` (a character a byte) or `fill`, or `raw` (the whole request), or `call` and
`message`. `<inference>`, `<management>` and `<API>` stand for the keys in key_file.json. `within`:
asked again for so many seconds until right. Steps with one `group` go out together, each `after`
its seconds; `unordered` ones may share their answers out among them. `sleep` waits."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torchserve import wire
from tests.torchserve.calls import Services
from tests.torchserve.server import Server, running
from tests.torchserve.verdict import Answer, differences

HERE = Path(__file__).parent
PATIENCE_S = 15.0
AGAIN_S = 0.1
Step = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """One judged step: nothing in `differences` when the answer was right."""

    section: str
    label: str
    differences: list[str]

    @property
    def name(self) -> str:
        return f"{self.section}/{self.label}"


def sections(folder: Path = HERE / "cases") -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def replay(section: Mapping[str, Any], server: Server) -> Iterator[Verdict]:
    """Ask the section's steps in order and judge each that has a label."""
    services = Services(json.loads((HERE / "grpc.json").read_text()))
    for group in grouped(section["steps"]):
        for step, answer in zip(group, asked(group, server, services), strict=True):
            if "label" in step and answer:
                found = differences(step["expect"], answer, server.keys())
                yield Verdict(section["section"], step["label"], found)


def grouped(steps: list[Step]) -> list[list[Step]]:
    """Neighbours with the same `group` together, every other step alone."""
    groups: list[list[Step]] = []
    for step in steps:
        if groups and "group" in step and groups[-1][0].get("group") == step["group"]:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def asked(group: list[Step], server: Server, services: Services) -> list[Answer | None]:
    """The answers to steps that are sent at the same time."""
    with ThreadPoolExecutor(len(group)) as threads:
        answers = list(threads.map(lambda step: ask_until_right(step, server, services), group))
    return matched(group, answers, server)


def matched(group: list[Step], answers: list[Answer | None], server: Server) -> list[Answer | None]:
    """`unordered` steps may have each other's answers: give each the one that fits best."""
    loose = [i for i, step in enumerate(group) if step.get("unordered")]
    rest, shared = list(loose), list(answers)
    for i in loose:
        best = min(rest, key=lambda j: len(judged(group[i], answers[j], server)))
        rest.remove(best)
        shared[i] = answers[best]
    return shared


def judged(step: Step, answer: Answer | None, server: Server) -> list[str]:
    return differences(step.get("expect", {}), answer, server.keys()) if answer else []


def ask_until_right(step: Step, server: Server, services: Services) -> Answer | None:
    time.sleep(step.get("sleep", 0) + step.get("after", 0))
    if "at" not in step:
        return None
    deadline = time.monotonic() + step.get("within", 0)
    while True:
        answer = ask(step, server, services)
        if time.monotonic() >= deadline or not judged(step, answer, server):
            return answer
        time.sleep(AGAIN_S)


def ask(step: Step, server: Server, services: Services) -> Answer:
    address, patience_s = server.addresses[step["at"]], step.get("timeout", PATIENCE_S)
    if "call" in step:
        return services.call(address, with_keys(step, server), patience_s)
    return wire.send(address, request_bytes(step, server), patience_s)


def with_keys(step: Step, server: Server) -> Step:
    metadata = {name: key_filled(value, server) for name, value in step.get("metadata", {}).items()}
    return {**step, "metadata": metadata}


def key_filled(text: str, server: Server) -> str:
    keys = server.keys()
    return re.sub(r"<([\w:]+)>", lambda found: keys.get(found[1], found[0]), text)


def request_bytes(step: Step, server: Server) -> bytes:
    """The step's request; a `raw` one is the whole of it."""
    if "raw" in step:
        return key_filled(str(step["raw"]), server).encode("latin-1")
    method = step["request"].partition(" ")[0]
    body = b"x" * int(step.get("fill", 0)) or str(step.get("body", "")).encode("latin-1")
    headers = {"Host": "localhost", **step.get("headers", {})}
    if body or method in ("POST", "PUT"):
        headers["Content-Length"] = str(len(body))
    lines = [f"{step['request']} HTTP/1.1", *(f"{name}: {v}" for name, v in headers.items())]
    return key_filled("\r\n".join([*lines, "", ""]), server).encode("latin-1") + body


def main() -> int:
    """Replay the chosen sections, print every difference; 0 when there was none."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__.partition("\n")[0])
    parser.add_argument("--launch", required=True, help="starts the server; {store} {config} {dir}")
    parser.add_argument("--cases", type=Path, default=HERE / "cases")
    parser.add_argument("sections", nargs="*")
    options = parser.parse_args()
    wrong = total = 0
    for section in sections(options.cases):
        if options.sections and section["section"] not in options.sections:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="replay-", ignore_cleanup_errors=True) as folder,
            running(section, options.launch, Path(folder)) as server,
        ):
            verdicts = list(replay(section, server))
        failed = [verdict for verdict in verdicts if verdict.differences]
        total, wrong = total + len(verdicts), wrong + len(failed)
        print(f"{section['section']:16} {len(verdicts) - len(failed)}/{len(verdicts)}", flush=True)
        for verdict in failed:
            print(f"  {verdict.name}", *verdict.differences, sep="\n      ")
    print(f"{'all':16} {total - wrong}/{total}")
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
