"""TorchServe's management routes: its answers, member by member."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_registering_without_workers_says_so(daemon: RunningDaemon, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, config="batchSize: 4\n")
    answer = daemon.register(archive, model_name="other", batch_size=2, max_batch_delay=50)
    assert answer.body == (
        b'{\n  "status": "Model \\"other\\" Version: 1.0 registered with 0 initial workers. '
        b'Use scale workers API to add workers for the model."\n}\n'
    )
    refused = daemon.call("POST", "/predictions/other", b"x")
    assert refused.status == 503
    assert refused.json()["type"] == "ServiceUnavailableException"
    assert refused.json()["message"].startswith(
        'Model "other" has no worker to serve inference request. Please use scale workers API'
    )
    described = daemon.call("GET", "/models/other").json()
    assert (described[0]["batchSize"], described[0]["maxBatchDelay"]) == (2, 50)


def test_every_answer_has_torchserves_headers(shared_daemon: RunningDaemon) -> None:
    answer = shared_daemon.call("POST", "/predictions/echo", b"x", {"X-Request-Id": "mine"})
    assert UUID.fullmatch(answer.headers.pop("x-request-id"))
    assert answer.headers == {
        "pragma": "no-cache",
        "cache-control": "no-cache; no-store, must-revalidate, private",
        "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
        "content-length": "1",
        "connection": "keep-alive",
    }


def test_describe_has_torchserves_members_in_its_order(shared_daemon: RunningDaemon) -> None:
    described = shared_daemon.call("GET", "/models/echo").json()
    assert list(described[0]) == [
        *("modelName", "modelVersion", "modelUrl", "runtime", "minWorkers", "maxWorkers"),
        *("batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout"),
        *("maxRetryTimeoutInSec", "clientTimeoutInMills", "parallelType", "parallelLevel"),
        *("deviceType", "continuousBatching", "useJobTicket", "useVenv", "stateful"),
        *("sequenceMaxIdleMSec", "sequenceTimeoutMSec", "maxNumSequence"),
        *("maxSequenceJobQueueSize", "loadedAtStartup", "workers", "jobQueueStatus"),
    ]
    worker = described[0]["workers"][0]
    assert list(worker) == [
        *("id", "startTime", "status", "memoryUsage", "pid", "gpu", "gpuUsage"),
    ]
    assert worker["status"] == "READY"
    assert worker["memoryUsage"] > 0
    assert described[0]["jobQueueStatus"] == {"remainingCapacity": 100, "pendingRequests": 0}


def test_versions_have_a_default_that_goes_last(daemon: RunningDaemon, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        daemon.register(make_archive(tmp_path, version=version))
    again = daemon.call("POST", f"/models?url={make_archive(tmp_path / 'again')}")
    assert again.status == 409
    assert again.json()["message"] == "Model version 1.0 is already registered for model echo"
    refused = daemon.call("DELETE", "/models/echo/1.0")
    assert (refused.status, refused.json()["type"]) == (403, "InvalidModelVersionException")
    every = daemon.call("GET", "/models/echo/all").json()
    assert [row["modelVersion"] for row in every] == ["1.0", "2.0"]
    made = daemon.call("PUT", "/models/echo/2.0/set-default")
    assert made.json() == {
        "status": 'Default version successfully updated for model "echo" to "2.0"'
    }
    assert daemon.call("DELETE", "/models/echo/1.0").json() == {
        "status": 'Model "echo" unregistered'
    }
    assert daemon.call("GET", "/models/echo").json()[0]["modelVersion"] == "2.0"


def test_the_list_has_pages(daemon: RunningDaemon, tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        daemon.register(make_archive(tmp_path, name), initial_workers=0)
    page = daemon.call("GET", "/models?limit=2").json()
    assert page == {
        "nextPageToken": "2",
        "models": [
            {"modelName": "a", "modelUrl": "a.mar"},
            {"modelName": "b", "modelUrl": "b.mar"},
        ],
    }
    rest = daemon.call("GET", "/models?limit=2&next_page_token=2").json()
    assert rest == {"models": [{"modelName": "c", "modelUrl": "c.mar"}]}


def test_a_watching_caller_is_told_each_phase(daemon: RunningDaemon, tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    accept = {"Accept": "application/x-ndjson"}
    answer = daemon.call("POST", f"/models?url={archive}", headers=accept)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    phases = [line["phase"] for line in lines[:-1]]
    assert phases[:2] == ["queued", "unpacking"]
    assert phases[-2:] == ["warming", "ready"]
    assert lines[-1] == {
        "result": {
            "code": 200,
            "status": 'Model "echo" Version: 1.0 registered with 1 initial workers',
        },
        "model": "echo",
        "version": "1.0",
    }


def test_a_json_body_registers_too(daemon: RunningDaemon, tmp_path: Path) -> None:
    body = {"url": str(make_archive(tmp_path)), "model_name": "by_json", "initial_workers": 1}
    headers = {"Content-Type": "application/json"}
    answer = daemon.call("POST", "/models", json.dumps(body).encode(), headers)
    assert answer.status == 200, answer.body
    assert daemon.call("GET", "/models/by_json").json()[0]["maxBatchDelay"] == 100


def test_health_and_metrics_tell_how_the_models_are(shared_daemon: RunningDaemon) -> None:
    assert shared_daemon.call("GET", "/ping").json() == {"status": "Healthy"}
    assert shared_daemon.call("GET", "/v2/health/live").json() == {"live": True}
    assert shared_daemon.call("GET", "/v2/health/ready").json() == {"ready": True}
    shared_daemon.call("POST", "/predictions/echo", b"x")
    shared_daemon.call("POST", "/predictions/echo/7", b"x")
    page = shared_daemon.call("GET", "/metrics").body.decode()
    labels = '{model="echo",version="1.0"}'
    for name in ("requests_total", "queue_depth", "request_seconds_count", "batch_rows_sum"):
        assert f"tsd_{name}{labels}" in page
    assert 'tsd_workers{model="echo",version="1.0",state="idle"} 1.0' in page


def test_kserve_asks_whether_a_model_has_workers(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path, config="batchSize: 1\n"))
    path = "/v1/models/echo"
    assert daemon.call("GET", path).json() == {"name": "echo", "ready": False}
    assert daemon.call("PUT", "/models/echo?min_worker=1&synchronous=true").status == 200
    assert daemon.call("GET", f"{path}:predict").json() == {"name": "echo", "ready": True}
    assert daemon.call("GET", "/v1/models/none").status == 404
    assert daemon.call("POST", path).status == 405


def test_a_registration_in_json_is_read_as_torchserve_reads_it(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, config="batchSize: 1\n")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    wrong = daemon.call("POST", f"/models?url={archive}", b"{bad", headers)
    assert (wrong.status, wrong.json()["type"]) == (500, "JsonSyntaxException")
    body = {"url": str(archive), "model_name": "m", "initial_workers": "1", "synchronous": True}
    answer = daemon.call("POST", "/models?model_name=other", json.dumps(body).encode(), headers)
    assert answer.json()["status"] == 'Model "m" Version: 1.0 registered with 1 initial workers'


def test_a_signed_download_is_refused_with_the_way_out(shared_daemon: RunningDaemon) -> None:
    url = "https://bucket.s3.amazonaws.com/m.mar"
    answer = shared_daemon.call("POST", f"/models?url={url}&s3_sse_kms=true")
    assert (answer.status, answer.json()["type"]) == (400, "DownloadArchiveException")
    assert "presigned" in answer.json()["fix"]


def test_less_than_no_workers_are_refused_and_the_workers_stay(
    shared_daemon: RunningDaemon,
) -> None:
    before = shared_daemon.worker_pids("echo")
    answer = shared_daemon.call("PUT", "/models/echo?min_worker=-1")
    assert (answer.status, answer.json()["type"]) == (400, "BadRequestException")
    assert shared_daemon.worker_pids("echo") == before


def test_no_time_to_start_is_a_failed_start_at_once(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "hasty", config="batchSize: 1\n")
    # A yaml hides what the request says of timeouts.
    (bare := tmp_path / "bare").mkdir()
    shutil.unpack_archive(archive, bare, "zip")
    manifest = bare / "MAR-INF" / "MANIFEST.json"
    said = json.loads(manifest.read_text())
    del said["model"]["configFile"]
    manifest.write_text(json.dumps(said))
    answer = shared_daemon.call("POST", f"/models?url={bare}&initial_workers=2&startup_timeout=0")
    assert answer.status == 500
    assert answer.json()["message"] == "Failed to start workers for model hasty version: 1.0"
    assert shared_daemon.call("GET", "/models/hasty").status == 404
