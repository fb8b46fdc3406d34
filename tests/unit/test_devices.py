"""What the machine has, and who uses it."""

import pytest

from tsd.devices import DeviceUse, find_devices, usual_workers, visible_gpus


def test_there_is_a_device_and_work_for_each() -> None:
    devices = find_devices()
    assert devices == ("cpu",) or all(device.startswith("cuda:") for device in devices)
    assert usual_workers() >= len(devices)


def test_where_no_gpu_may_be_seen_there_is_none() -> None:
    assert find_devices(visible="") == ("cpu",)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("", []), ("2, 3", ["2", "3"]), ("-1", []), ("0,-1,1", ["0"]), ("GPU-8a,1", ["GPU-8a", "1"])],
)
def test_the_visible_ones_end_at_the_first_that_is_none(visible: str, expected: list[str]) -> None:
    assert visible_gpus(visible) == expected


def test_the_least_used_place_is_next_and_of_equals_the_first() -> None:
    use = DeviceUse()
    places = [("a", "b"), ("c", "d")]
    assert [use.take(places) for _ in range(3)] == [places[0], places[1], places[0]]
    use.give_back(places[0])
    use.give_back(places[0])
    assert use.take(places) == places[0]
