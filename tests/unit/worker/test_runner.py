"""What a worker makes of its process."""

from tsd.worker.runner import visible_devices


def test_a_worker_sees_its_gpus_only() -> None:
    assert visible_devices((2, 3), "") == "2,3"


def test_among_gpus_that_are_shown_the_numbers_are_places() -> None:
    assert visible_devices((0, 2), "4, GPU-5a,7") == "4,7"
