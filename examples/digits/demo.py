"""The demonstration: a daemon, the digits model, and handwritten digits that it has never seen.

`make demo` runs it to its end; `make serve` (--keep-running) leaves the daemon running."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SHADES = " .:-=+*#%@"
SHOWN = 4
READY_S = 60.0


@dataclass(frozen=True)
class Prediction:
    """One image, what it shows, what the model says, and how long that took."""

    path: Path
    label: int
    answer: int
    seconds: float


def main() -> int:
    """Show the whole way; exit status 0 when the model does what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep-running", action="store_true", help="serve until Ctrl-C")
    parser.add_argument("--http", help="ADDR:PORT (default: a free port; 8080 when kept running)")
    options = parser.parse_args()
    address = options.http or ("127.0.0.1:8080" if options.keep_running else "127.0.0.1:0")
    folder = Path(tempfile.mkdtemp(prefix="tsd-demo-"))
    try:
        with daemon(folder, address) as process:
            is_right = show(folder)
            if options.keep_running:
                how_to_use(folder)
                wait_for_interrupt(process)
        say(f"stopped, exit status {process.returncode}")
    finally:
        shutil.rmtree(folder)
    return 0 if is_right and process.returncode == 0 else 1


@contextlib.contextmanager
def daemon(folder: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """`tsd` in the foreground of its own process, ready; asked to drain and stop at the end."""
    say("starting the daemon")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(folder / "notify"))
        notices.settimeout(READY_S)
        command = [
            *(BIN / "tsd", "--runtime-dir", folder / "run", "--state-dir", folder / "state"),
            *("--http", address, "--metrics", "none", "--grpc", "none", "--log-level", "warning"),
        ]
        own = {"NOTIFY_SOCKET": str(folder / "notify"), "TSD_SOCKET": str(control(folder))}
        process = subprocess.Popen(command, env=os.environ | own, process_group=0)
        try:
            while b"READY=1" not in notices.recv(4096):
                pass
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def show(folder: Path) -> bool:
    """Pack, register, ask, measure; whether the answers are as good as they should be."""
    say("packing and registering the digits model")
    tsctl(folder, "pack", "--model-name", "digits", "--handler", HERE / "handler.py",
          "--model-file", HERE / "model.py", "--serialized-file", HERE / "digits.pt",
          "--config-file", HERE / "model-config.yaml", "--export-path", folder)  # fmt: skip
    tsctl(folder, "register", folder / "digits.mar")
    say("asking for images that it was not trained on")
    predictions = list(ask(http_address(folder)))
    for prediction in pick(predictions):
        draw(prediction)
    right = sum(p.answer == p.label for p in predictions)
    accuracy = right / len(predictions)
    times_ms = sorted(1000 * p.seconds for p in predictions)
    say(f"{right} of {len(predictions)} right: accuracy {accuracy:.1%}")
    median, late = statistics.median(times_ms), times_ms[int(len(times_ms) * 0.99)]
    say(f"latency over HTTP, one after the other: p50 {median:.2f} ms, p99 {late:.2f} ms")
    tsctl(folder, "status")
    return accuracy >= 0.95


def ask(address: str) -> Iterator[Prediction]:
    """One request an image, over one connection."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for path in sorted((HERE / "images").glob("*.png")):
        began = time.perf_counter()
        connection.request("POST", "/predictions/digits", path.read_bytes())
        response = connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        if response.status != http.HTTPStatus.OK:
            raise SystemExit(f"the daemon answered {response.status}: {body.decode()}")
        label = int(path.stem.partition("_")[2])
        yield Prediction(path, label, json.loads(body)["digit"], seconds)
    connection.close()


def pick(predictions: list[Prediction]) -> list[Prediction]:
    """A few that are right, and one that is not, if there is one."""
    right = [p for p in predictions if p.answer == p.label]
    wrong = [p for p in predictions if p.answer != p.label]
    return right[: SHOWN - 1] + (wrong or right)[-1:]


def draw(prediction: Prediction) -> None:
    """The image in characters, the darker the heavier; beside it what it is said to be."""
    image = Image.open(io.BytesIO(prediction.path.read_bytes())).convert("L")
    width, height = image.size
    pixels = image.tobytes()
    for row in range(height):
        shades = [
            pixels[row * width + column] * (len(SHADES) - 1) // 255 for column in range(width)
        ]
        note = (
            f"   predicted {prediction.answer}, true {prediction.label}"
            if row == height // 2
            else ""
        )
        print("    " + "".join(2 * SHADES[shade] for shade in shades) + note)
    print()


def how_to_use(folder: Path) -> None:
    """What to type next, in another terminal."""
    image = sorted((HERE / "images").glob("*.png"))[0]
    say("serving until Ctrl-C; in another terminal:")
    print(f"    curl -T {image} http://{http_address(folder)}/predictions/digits")
    print(f"    export TSD_SOCKET={control(folder)}")
    print(f"    {BIN}/tsctl status")


def wait_for_interrupt(process: subprocess.Popen[bytes]) -> None:
    """Until Ctrl-C, or until the daemon ends by itself."""
    with contextlib.suppress(KeyboardInterrupt):
        process.wait()


def http_address(folder: Path) -> str:
    """Where the daemon listens for predictions."""
    status = json.loads(tsctl(folder, "--json", "status", is_quiet=True))
    doors = [door["address"] for door in status["doors"] if door["name"] == "http"]
    return next(address for address in doors if not address.startswith("/"))


def tsctl(folder: Path, *words: str | Path, is_quiet: bool = False) -> str:
    """Run the operator's client; what it prints is shown, too."""
    command = [str(BIN / "tsctl"), *map(str, words)]
    environment = os.environ | {"TSD_SOCKET": str(control(folder))}
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if not is_quiet:
        print("".join(f"    {line}\n" for line in ended.stdout.splitlines()), end="")
    return ended.stdout


def control(folder: Path) -> Path:
    """The operators' socket."""
    return folder / "run" / "control.sock"


def say(text: str) -> None:
    """One line of the story."""
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
