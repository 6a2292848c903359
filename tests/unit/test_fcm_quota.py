"""The project quota: a bucket for each minute, filled anew when the minute is over."""

from labs.fcm.quota import MinuteBucket


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_the_bucket_allows_its_limit_in_one_minute_and_no_more():
    bucket = MinuteBucket(3, Clock(600.0))
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]


def test_the_bucket_stays_empty_to_the_end_of_the_minute_and_is_full_in_the_next():
    clock = Clock(600.0)
    bucket = MinuteBucket(2, clock)
    assert bucket.take()
    assert bucket.take()
    clock.now = 659.999
    assert not bucket.take()
    clock.now = 660.0
    assert bucket.left == 2
    assert bucket.take()


def test_what_a_minute_leaves_over_is_not_added_to_the_next():
    clock = Clock(600.0)
    bucket = MinuteBucket(2, clock)
    clock.now = 900.0
    assert bucket.left == 2


def test_retry_after_counts_whole_seconds_to_the_next_minute():
    clock = Clock(600.0)
    bucket = MinuteBucket(1, clock)
    waits = []
    for now in (600.0, 622.5, 659.01, 659.999):
        clock.now = now
        waits.append(bucket.seconds_to_refill())
    assert waits == [60, 38, 1, 1]


def test_a_changed_limit_keeps_what_this_minute_has_spent():
    bucket = MinuteBucket(10, Clock(600.0))
    for _ in range(4):
        bucket.take()
    bucket.change_limit(5)
    assert bucket.left == 1
    bucket.change_limit(2)
    assert bucket.left == 0
    bucket.change_limit(100)
    assert 96 <= bucket.left <= 98


def test_a_limit_of_zero_refuses_everything():
    assert not MinuteBucket(0, Clock(600.0)).take()
