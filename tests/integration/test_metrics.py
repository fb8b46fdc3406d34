"""The metrics page and TorchServe's log files of a real daemon, as a dashboard reads them."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running, wait_for

HANDLER = """
    def handle(data, context):
        if data is None:
            return None
        context.metrics.add_counter("Hits", 2, idx=0)
        context.metrics.add_size("Size", 4)
        context.metrics.add_error("Fault", 1)
        print("said by the handler", flush=True)
        return ["ok" for _ in data]
"""
OVERLAPPING = """
    class H:
        def initialize(self, context): pass
        async def handle(self, data, context):
            context.metrics.add_counter("Calls", 1)
            return ["ok"]
"""
CONFIG = """
[metrics]
mode = "{mode}"
interval_s = 1
folder = "{folder}"
[log]
folder = "{folder}"
[torchserve]
is_strict = {is_strict}
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon whose model was asked twice, once with a version, and once for what is not there."""
    folder = tmp_path_factory.mktemp("measured")
    with running(folder, "--metrics", "127.0.0.1:0") as daemon:
        ask(daemon, make_archive(folder, handler=HANDLER))
        yield daemon


def ask(daemon: RunningDaemon, archive: Path) -> None:
    daemon.register(archive, initial_workers=1, synchronous="true")
    for path in ("/predictions/echo", "/predictions/echo/1.0", "/no/such/path"):
        get(daemon, "http", path)


def get(daemon: RunningDaemon, door: str, path: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{daemon.port(door)}{path}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def page(daemon: RunningDaemon, query: str = "") -> str:
    return get(daemon, "metrics", f"/metrics{query}")[1]


def configured(folder: Path, mode: str, is_strict: str) -> tuple[str, ...]:
    config = folder / "tsd.toml"
    config.write_text(CONFIG.format(mode=mode, is_strict=is_strict, folder=folder / "logs"))
    return ("--config", str(config), "--metrics", "127.0.0.1:0")


def test_what_handlers_measure_is_on_the_page(measured: RunningDaemon) -> None:
    labels = r'ModelName="echo",Level="Model",Hostname="[^"]+",'
    wait_for(lambda: re.search(rf"Hits{{{labels}}} 4\.0\n", page(measured)) is not None)
    text = page(measured)
    assert re.search(rf"Size{{{labels}}} 4\.0\n", text)
    assert re.search(r'Fault{Level="Error",Hostname="[^"]+",} 2\.0\n', text)
    assert re.search(rf"PredictionTime{{{labels}}} \d", text)


def test_what_a_coroutine_measures_is_on_the_page(measured: RunningDaemon, tmp_path: Path) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nasyncCommunication: true\n"
    measured.register(make_archive(tmp_path, "calls", OVERLAPPING, config))
    assert get(measured, "http", "/predictions/calls")[0] == 200
    wait_for(lambda: re.search(r"Calls{.*} 1\.0\n", page(measured)) is not None, 30)


def test_what_the_daemon_counts_has_torchserves_names_beside_tsds_own(
    measured: RunningDaemon,
) -> None:
    text = page(measured)
    asked = (
        r'ts_inference_requests_total{model_name="echo",model_version="(.*?)",hostname="[^"]+",}'
    )
    assert sorted(re.findall(asked + r" 1\.0\n", text)) == ["1.0", "default"]
    assert re.search(r'Requests2XX{Level="Host",Hostname="[^"]+",} \d', text)
    assert re.search(r'Requests4XX{Level="Host",Hostname="[^"]+",} 1\.0\n', text)
    assert re.search(r'WorkerLoadTime{WorkerName="W-9000-echo_1\.0",Level="Host",', text)
    families = {family.name for family in text_string_to_metric_families(text)}
    assert {"tsd_requests", "tsd_request_seconds", "Hits", "QueueTime"} <= families


def test_the_page_can_be_filtered(measured: RunningDaemon) -> None:
    text = page(measured, "?name[]=QueueTime&name%5B%5D=tsd_connections&name[]=None")
    assert re.findall(r"# TYPE (\w+)", text) == ["tsd_connections", "QueueTime"]


def test_the_machines_load_is_measured(measured: RunningDaemon) -> None:
    wait_for(lambda: "MemoryUtilization{" in page(measured))
    assert 'DiskAvailable{Level="Host",' in page(measured)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningDaemon, Path]]:
    """A daemon as `torchserve` starts it, in TorchServe's own mode, and its logs."""
    folder = tmp_path_factory.mktemp("logged")
    with running(folder, *configured(folder, "log", "true")) as daemon:
        ask(daemon, make_archive(folder, handler=HANDLER))
        yield daemon, folder / "logs"


def log_has(logs: Path, name: str, pattern: str) -> None:
    """Wait for it: a thread writes the file."""
    wait_for(lambda: re.search(pattern, (logs / name).read_text(), re.MULTILINE) is not None)


STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"


def test_in_mode_log_the_page_is_empty(logged: tuple[RunningDaemon, Path]) -> None:
    assert get(logged[0], "metrics", "/metrics") == (200, "")


def test_in_mode_log_each_value_that_a_handler_reports_is_a_line(
    logged: tuple[RunningDaemon, Path],
) -> None:
    line = (
        r" - Hits\.Count:2\.0\|#ModelName:echo,Level:Model\|#hostname:[^,]+,"
        r"requestID:[0-9a-f-]{36},timestamp:\d+$"
    )
    log_has(logged[1], "model_metrics.log", STAMP + line)
    log_has(logged[1], "model_metrics.log", STAMP + r" - PredictionTime\.\w+:")


def test_in_mode_log_the_daemons_counts_are_lines(logged: tuple[RunningDaemon, Path]) -> None:
    log_has(logged[1], "ts_metrics.log", STAMP + r" - Requests4XX\.Count:1\.0\|#Level:Host\|#host")
    log_has(logged[1], "ts_metrics.log", STAMP + r" - MemoryUsed\.Megabytes:\d")
    asked = r"model_name:echo,model_version:default\|#hostname:[^,]+,timestamp:\d+$"
    log_has(logged[1], "ts_metrics.log", rf"ts_inference_requests_total\.Count:1\.0\|#{asked}")


def test_who_asked_and_what_was_said_is_in_files(logged: tuple[RunningDaemon, Path]) -> None:
    asked = r'"GET /predictions/echo/1\.0 HTTP/1\.1" 200 \d+$'
    log_has(logged[1], "access_log.log", STAMP + r" - /127\.0\.0\.1:\d+ " + asked)
    said = r" \[INFO \] W-9000-echo_1\.0-stdout MODEL_LOG - said by the handler"
    log_has(logged[1], "model_log.log", STAMP + said)
    log_has(logged[1], "ts_log.log", STAMP + r" \[INFO \] main tsd - worker ready")
    # What came before the files were there is in them, too, and the control socket is no door.
    log_has(logged[1], "ts_log.log", "listening on")
    assert "/models" not in (logged[1] / "access_log.log").read_text()


def test_a_metrics_file_says_which_metrics_there_are(tmp_path: Path) -> None:
    declared = tmp_path / "metrics.yaml"
    declared.write_text(
        "ts_metrics: {gauge: [{name: QueueTime, unit: ms, dimensions: [Level, Hostname]}]}\n"
        "model_metrics: {counter: [{name: Hits, unit: hits, dimensions: [ModelName, Level]}]}\n"
    )
    config = tmp_path / "tsd.toml"
    config.write_text(f'[metrics]\nfile = "{declared}"\nauto_detect = false\nsystem = false\n')
    with running(tmp_path, "--config", str(config), "--metrics", "127.0.0.1:0") as daemon:
        ask(daemon, make_archive(tmp_path, handler=HANDLER))
        wait_for(lambda: "Hits{" in page(daemon))
        shown = re.findall(r"# TYPE (\w+)", page(daemon))
    assert [name for name in shown if not name.startswith("tsd_")] == ["QueueTime", "Hits"]
