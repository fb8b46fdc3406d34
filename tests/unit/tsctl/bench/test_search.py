"""Which settings are tried on models that are formulas, and which is called the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tsctl.bench.search import Goal, Limits, Point, Setting, best, doubling, explore, suitable


class Formula:
    """A model whose batches take so long, and so much longer for each row."""

    def __init__(self, base_ms: float, row_ms: float, most_workers: int = 64) -> None:
        self.base_ms = base_ms
        self.row_ms = row_ms
        self.most_workers = most_workers
        self.tried: list[Setting] = []

    def measure(self, setting: Setting, clients: int) -> Point:
        if setting not in self.tried:
            self.tried.append(setting)
        workers = min(setting.workers, self.most_workers)
        rows = max(1, min(setting.batch_size, clients // setting.workers))
        batch_ms = self.base_ms + self.row_ms * rows
        waves = max(1.0, clients / (rows * workers))
        latency_ms = batch_ms * waves
        return Point(setting, clients, 1000 * clients / latency_ms, latency_ms, latency_ms)


def found(model: Formula, latency_ms: float | None, workers: int = 8) -> Setting | None:
    goal = Goal(99, latency_ms)
    point = best(explore(model.measure, goal, Limits(workers, 64)), goal)
    return point.setting if point else None


def test_where_batches_cost_almost_nothing_the_largest_that_keeps_the_latency_is_found() -> None:
    assert found(Formula(10, 0.1, most_workers=1), latency_ms=11.7) == Setting(1, 16)


def test_where_batches_bring_nothing_few_are_tried() -> None:
    model = Formula(0, 10, most_workers=1)
    assert found(model, latency_ms=1000) == Setting(1, 1)
    assert len(model.tried) == 6


def test_workers_are_added_for_as_long_as_they_bring_more() -> None:
    model = Formula(0, 10, most_workers=3)
    assert found(model, latency_ms=1000) == Setting(4, 1)
    assert max(model.tried).workers == 8


def test_nothing_is_found_where_the_model_alone_is_too_slow() -> None:
    model = Formula(50, 1)
    assert found(model, latency_ms=20) is None
    assert max(model.tried) == Setting(1, 2)


def test_of_what_is_about_as_good_the_cheapest_is_the_best() -> None:
    points = [
        Point(Setting(2, 8), 16, 102.0, 5, 9),
        Point(Setting(1, 16), 16, 101.0, 5, 9),
        Point(Setting(1, 8), 16, 100.0, 5, 9),
        Point(Setting(1, 8), 8, 99.0, 3, 5),
        Point(Setting(1, 4), 8, 50.0, 3, 5),
    ]
    assert best(points, Goal(99, 10)) == points[3]
    assert best(points, Goal(99)) == points[3]


def test_what_was_refused_counts_for_nothing() -> None:
    point = Point(Setting(1, 1), 500, 1000.0, 1, 1, refused=3)
    assert best([point], Goal(99)) is None
    assert Goal(99).is_far(point)
    assert not Goal(99).is_far(replace(point, refused=0))


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_are_doubled_up_to_the_most(most: int, numbers: list[int]) -> None:
    assert doubling(most) == numbers


def test_the_clients_suit_the_setting() -> None:
    assert suitable(Setting(1, 1)) == [1, 2]
    assert suitable(Setting(2, 16)) == [8, 16, 32, 64]
