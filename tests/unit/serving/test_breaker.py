"""When dead workers are replaced, and when a model counts as failed."""

from tsd.serving.breaker import Breaker


def test_a_killed_worker_is_replaced_at_once() -> None:
    breaker = Breaker()
    breaker.died(0.0, was_ready=True)
    assert breaker.delay_s(0.0) == 0.0
    assert not breaker.is_open


def test_deaths_in_a_row_back_off_and_open_the_breaker() -> None:
    breaker, delays = Breaker(), []
    for second in range(5):
        breaker.died(float(second), was_ready=True)
        breaker.started() if second < 4 else None
        delays.append(breaker.delay_s(0.0))
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert breaker.is_open


def test_deaths_far_apart_do_not_open_it() -> None:
    breaker = Breaker()
    for minute in range(10):
        breaker.died(minute * 61.0, was_ready=True)
    assert not breaker.is_open


def test_kills_between_answers_never_add_up() -> None:
    breaker = Breaker()
    for second in range(100):
        breaker.died(float(second), was_ready=True)
        breaker.started()
        breaker.answered()
    assert not breaker.is_open
    assert breaker.delay_s(0.0) == 0.0


def test_three_starts_that_never_got_ready_open_it() -> None:
    breaker, delays = Breaker(), []
    for second in range(3):
        assert not breaker.is_open
        breaker.died(second * 100.0, was_ready=False)
        delays.append(breaker.delay_s(0.0))
    assert breaker.is_open
    assert delays == [0.5, 1.0, 1.0]


def test_trials_double_up_to_a_minute_and_are_spread() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.died(0.0, was_ready=False)
    assert [breaker.delay_s(0.0) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert breaker.delay_s(1.0) == 72
    assert breaker.delay_s(-1.0) == 48


def test_an_answer_ends_the_trials() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.died(0.0, was_ready=False)
    breaker.delay_s(0.0)
    breaker.started()
    assert not breaker.is_open
    breaker.answered()
    breaker.died(1.0, was_ready=True)
    assert breaker.delay_s(0.0) == 0.0
