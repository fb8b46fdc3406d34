"""TorchServe's addresses as doors, and back."""

import pytest

from tsd.properties import doors


@pytest.mark.parametrize(
    ("key", "text", "door"),
    [
        ("inference_address", "http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("inference_address", "HTTP://0.0.0.0", "0.0.0.0:80"),
        ("inference_address", "https://127.0.0.1", "https://127.0.0.1:443"),
        ("management_address", "http://127.0.0.1", "127.0.0.1:8081"),
        ("management_address", "https://127.0.0.1", "https://127.0.0.1:8444"),
        ("metrics_address", "http://127.0.0.1", "127.0.0.1:8082"),
        ("metrics_address", "https://127.0.0.1", "https://127.0.0.1:8445"),
        ("metrics_address", "https://localhost:9", "https://127.0.0.1:9"),
        ("inference_address", "unix:/tmp/ts.sock", "/tmp/ts.sock"),
    ],
)
def test_addresses_of_http(key: str, text: str, door: str) -> None:
    assert doors.read_http(key, text) == door


@pytest.mark.parametrize("text", ["127.0.0.1:80", "ftp://a", "http://", "http://a:b", "unix:x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="it is neither"):
        doors.read_http("inference_address", text)


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match=r"'no-such-host\.invalid' is not known"):
        doors.read_http("inference_address", "http://no-such-host.invalid:80")


def test_a_grpc_door_has_two_keys_with_defaults() -> None:
    assert doors.read_grpc("doors.grpc", {}) == "127.0.0.1:7070"
    assert doors.read_grpc("doors.grpc_management", {}) == "127.0.0.1:7071"
    said = {"grpc_inference_address": "0.0.0.0", "grpc_inference_port": "9"}
    assert doors.read_grpc("doors.grpc", said) == "0.0.0.0:9"
    assert doors.read_grpc("doors.grpc", {"grpc_inference_address": "::1"}) == "[::1]:7070"


def test_doors_are_written_as_they_are_read() -> None:
    settings = {
        "doors.http": "https://127.0.0.1:8443",
        "doors.management": "/run/m.sock",
        "doors.metrics": "127.0.0.1:8082",
        "doors.grpc": "127.0.0.1:1",
        "doors.grpc_management": "none",
    }
    written = doors.write(settings)
    assert written == {
        "inference_address": "https://127.0.0.1:8443",
        "management_address": "unix:/run/m.sock",
        "metrics_address": "http://127.0.0.1:8082",
        "grpc_inference_address": "127.0.0.1",
        "grpc_inference_port": "1",
        "enable_metrics_api": "true",
    }
    for key, setting in doors.HTTP_KEYS.items():
        assert doors.read_http(key, written[key]) == settings[setting]
    assert doors.write(settings | {"doors.metrics": "none"})["enable_metrics_api"] == "false"
