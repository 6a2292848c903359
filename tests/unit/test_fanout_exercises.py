"""The exercises of incident 1, as far as they go without an outage: stubs, refusals, arithmetic, what is shown."""

import json

import pytest
from sqlalchemy import func, select

from labs.fanout.graded import (
    bulk_query,
    exercises,
    find_the_hog,
    fleet_size,
    killed_worker,
    last_connection,
    read_the_answers,
    sizing,
)
from labs.fanout.knobs import Knobs
from labs.fanout.social.models import Device
from labs.kit.grading_source import SourceError, as_module


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing may be started for this answer")

    for module in ("activity", "attempts", "decisions", "redelivery", "sizing", "tokens"):
        monkeypatch.setattr(f"labs.fanout.graded.{module}.quiet_system", refuse)


def tokens_of_followers(session, author_id):
    """Return the tokens to call."""


def what_next(code):
    return ...


STUBS = {
    last_connection: [...],
    bulk_query: [tokens_of_followers],
    find_the_hog: ["-- your query\n"],
    fleet_size: [{"pods": ..., "pool_size": ..., "threads": ...}],
    killed_worker: [{"task_acks_late": ..., "broker_transport_options": ...},
                    {"broker_transport_options": {"visibility_timeout": ...}}],
    read_the_answers: [what_next],
}  # fmt: skip


def test_there_are_six_each_with_three_hints_and_a_solution():
    assert list(exercises) == list(STUBS)
    for exercise in exercises:
        assert len(exercise.hints) == 3
        assert exercise.solution is not None
        assert exercise.task
        assert "A solution" in exercise._repr_html_()


@pytest.mark.parametrize("exercise", exercises, ids=lambda exercise: exercise.name)
def test_a_stub_starts_nothing(exercise):
    for stub in (None, ..., *STUBS[exercise]):
        assert not exercise.grade(stub).answered


@pytest.mark.parametrize(("exercise", "answer", "said"), [
    (last_connection, 0, "from 1 to 1,000, not 0"),
    (last_connection, "six", "must be a whole number"),
    (last_connection, 2.5, "must be a whole number, not 2.5"),
    (fleet_size, {"pods": 2, "pool": 3}, "must have the entries pods, pool_size, threads, not pods, pool"),
    (fleet_size, {"pods": 0, "pool_size": 3, "threads": 3}, "pods must be a whole number from 1 to 4"),
    (killed_worker, {"acks_late": True}, "not acks_late"),
    (killed_worker, {"task_acks_late": "yes"}, "task_acks_late must be True or False"),
    (killed_worker, {"broker_transport_options": {"visibility_timeout": -1}}, "seconds above 0, not -1"),
    (killed_worker, {"broker_transport_options": 90}, "must be like"),
    (read_the_answers, lambda code: "again", "Write your function with `def`"),
])  # fmt: skip
def test_what_cannot_be_an_answer_is_refused_in_a_sentence(exercise, answer, said):
    assert said in exercise.grade(answer).reason


def test_a_decision_that_is_none_of_the_three_is_refused():
    def what_next(code):
        return "retry"

    assert "what_next('OK') must return one of finished, forget, again, not 'retry'." in (
        read_the_answers.grade(what_next).reason)  # fmt: skip


def test_the_fleets_that_pass_the_arithmetic_have_a_pod_to_spare(monkeypatch):
    monkeypatch.setattr("labs.fanout.graded.sizing._not_served", lambda *_: 0)
    passed = [(pods, pool) for pods in (1, 2, 3, 4) for pool in range(1, 15)
              if fleet_size.grade({"pods": pods, "pool_size": pool, "threads": pool}).passed]  # fmt: skip
    assert passed == [(2, 8), (2, 9), (3, 4), (3, 5), (3, 6), (4, 3), (4, 4), (4, 5)]


def test_the_pods_that_the_task_allows_are_those_that_can_be_run():
    with pytest.raises(ValueError, match=f"from 1 to {sizing.MOST_PODS}"):
        Knobs(pods=sizing.MOST_PODS + 1)


def test_what_only_chance_would_decide_is_left_to_the_arithmetic():
    assert "connections of the whole fleet: 10" in fleet_size.grade({"pods": 2, "pool_size": 5, "threads": 64}).reason
    near = {"task_acks_late": True, "broker_transport_options": {"visibility_timeout": 30}}
    assert "30 s, target from 60 to 120 s, missed" in killed_worker.grade(near).reason


# -- a function on its way to the pods

LIMITS = {"most": 3, "names": ("a", "b")}


def helper(number):
    return min(number, LIMITS["most"]) + len(json.dumps([number]))


def counts(number):
    return helper(number) if number else select(func.count(Device.id))


def test_a_function_takes_along_what_it_refers_to():
    module = {}
    exec(as_module(counts), module)
    assert module["counts"](7) == counts(7)
    assert str(module["counts"](0)) == str(counts(0))


def test_what_cannot_be_taken_along_is_named():
    around = 4

    def uses_around():
        return around

    def uses_handle():
        return HANDLE

    with pytest.raises(SourceError, match="uses_around uses around of the function around it"):
        as_module(uses_around)
    with pytest.raises(SourceError, match="uses_handle uses HANDLE, which cannot be taken along"):
        as_module(uses_handle)
    with pytest.raises(SourceError, match="with `def`"):
        as_module(lambda: 4)


HANDLE = object()
