"""metrics.yaml is read as TorchServe reads it, and what is wrong with it is said at once."""

from pathlib import Path

import pytest

from tsd.errors import ConfigError
from tsd.metrics_file import MAX_FILE_BYTES, Declared, read

EXAMPLE = """
dimensions:
  - &model "ModelName"
  - &host "Hostname"
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Count, dimensions: [*host]}
  gauge:
model_metrics:
  histogram:
    - {name: Spread, unit: ms, dimensions: [*model]}
  counter:
    - {name: Hits, unit: count, dimensions: []}
"""


def test_a_file_declares_the_daemons_metrics_and_those_of_handlers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text(EXAMPLE)
    found = read(path)
    assert list(found.frontend.values()) == [
        Declared("Requests2XX", "counter", "Count", ("Hostname",))
    ]
    assert found.model["Spread"] == Declared("Spread", "histogram", "ms", ("ModelName", "Hostname"))
    assert found.for_workers() == {
        "model_metrics": {
            "counter": [{"name": "Hits", "unit": "count", "dimensions": []}],
            "histogram": [{"name": "Spread", "unit": "ms", "dimensions": ["ModelName"]}],
        }
    }


def test_without_a_file_there_are_torchserves_metrics() -> None:
    found = read(None)
    assert len(found.frontend) == 19
    assert found.model["HandlerTime"].labels == ("ModelName", "Level", "Hostname")


def metric(name: str = "A", dimensions: str = "[Zone]") -> str:
    return f"model_metrics: {{gauge: [{{name: {name!r}, unit: ms, dimensions: {dimensions}}}]}}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expected `object`"),
        ("ts_metrics: {}", "missing required field `model_metrics`"),
        ("model_metrics: {}", "model_metrics declares nothing"),
        ("model_metrics: {gauge: [{name: A}]}", "missing required field `unit`"),
        ("a: [", "while parsing"),
        (metric("no name"), "regex"),
        (metric("tsd_requests"), "regex"),
        (metric(dimensions="[le]"), "regex"),
        (metric(dimensions="[Zone, Zone]"), "Zone, Zone, Hostname"),
        (metric(dimensions="[Hostname]"), "Hostname, Hostname"),
        (f"# {'x' * MAX_FILE_BYTES}", "larger than"),
        (f"ts_metrics: {{gauge: [{{name: A, unit: ms, dimensions: []}}]}}\n{metric()}", "missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert why in caught.value.why


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read(tmp_path / "none.yaml")
