"""Exercise 6: what to do about each message that FCM did not take, decided by the learner, run by today's program."""

from collections.abc import Callable, Iterator, Mapping

from labs.fanout.dataset import INFLUENCER_ID
from labs.fanout.experiment import quiet_system
from labs.fanout.graded.scene import AnswerError, database, program, wait_for
from labs.fanout.system import System
from labs.kit.grading import Exercise, Finding, exactly
from labs.kit.grading_source import as_module
from labs.stack import Stack

FOLLOWERS, DEAD_EVERY = 400, 10  # the app was removed from every tenth phone
# Nothing is sent twice because the machine was slow for a while; wall seconds.
UNHURRIED = {"CHUNK_TIMEOUT": 60, "VISIBILITY_TIMEOUT": 120}
DECISIONS = ("finished", "forget", "again")
CODES = ("OK", "UNREGISTERED", "INVALID_ARGUMENT", "UNAVAILABLE", "INTERNAL")

TASK = """
Today's program asks about each message what to do next. Write `what_next(code)`, which returns one of

- `"finished"`: nothing more is to be done about this message,
- `"forget"`: and the phone's token is deleted, so that no later post calls it,
- `"again"`: the same message goes to the same phone once more, after a while.

`code` is what FCM said: `OK`; `UNREGISTERED`, the app was removed from the phone; `INVALID_ARGUMENT`, there is
something wrong with the request; `UNAVAILABLE`, overloaded; `INTERNAL`, an error of its own.

It is tried on three posts. A faulty release sends the first one with a field that FCM refuses, for everybody. During
the second FCM is overloaded at first, and one phone in ten is gone. The third goes well.
"""

HINTS = (
    "Ask of each code whose fault it is: the phone's, the request's, or the service's. Which of these pass by "
    "themselves?",
    "Trying again helps when the service was at fault. Deleting a token helps when the phone is gone, and harms "
    "whenever it is not: what would the faulty release do to you?",
    'UNREGISTERED: "forget". UNAVAILABLE and INTERNAL: "again". OK and INVALID_ARGUMENT: "finished".',
)

PROGRAM = """
from labs.fanout import step6_todays_fcm as today
from labs.fanout.social.results import Result

import answer


class Decided(Result):
    @property
    def gone(self):
        return answer.{name}(self.code) == "forget"

    @property
    def refused(self):
        return self.code != "OK" and answer.{name}(self.code) == "finished"

    @property
    def retriable(self):
        return answer.{name}(self.code) == "again"


send_once = today.send
today.send = lambda chunk: [Decided(*result) for result in send_once(chunk)]
app, celery_app = today.app, today.celery_app
"""


def solution(code: str) -> str:
    """A phone that is gone stays gone; an overload passes; a request that is wrong is wrong the next time too.

    INVALID_ARGUMENT alone does not say that it is the token's fault: a faulty release would delete everybody's. But FCM
    gives it for a malformed token too, so before it deletes one, real code reads the error's details, which name the
    field where the request is wrong, or sends that token a message known to be good, in a dry run (`validate_only`).

    Today's program knows two more answers. A spent quota, a 429, passes: "again", once `Retry-After` is over, or after
    a minute without one. SENDER_ID_MISMATCH does not, because the token belongs to another project: "finished", and
    logged, so that somebody looks at the credentials.
    """
    if code == "UNREGISTERED":
        return "forget"
    return "again" if code in ("UNAVAILABLE", "INTERNAL") else "finished"


def grade(answer: Callable) -> Iterator[Finding]:
    """Publish three posts with the learner's decisions."""
    source = as_module(answer)
    decisions = {code: _decision(answer, code) for code in CODES}
    with program(answer=source, with_answer=PROGRAM.format(name=answer.__name__)) as found, quiet_system(
        "three posts with your decisions", step="today", followers=FOLLOWERS, speed=20, fcm_latency_ms=200,
        env=found | {"PUSH_BACKOFF": 0.2, "PUSH_BACKOFF_MAX": 0.4, "FCM_TIMEOUT": 600} | UNHURRIED,
    ) as system:  # fmt: skip
        dead = _dead(system.stack)
        system.deploy(module="with_answer")
        yield _refused_post(system)
        yield from _overloaded_post(system, dead, decisions)
        yield _quiet_post(system)


def _decision(answer: Callable, code: str) -> str:
    decision = answer(code)
    if decision not in DECISIONS:
        raise AnswerError(f"what_next({code!r}) must return one of {', '.join(DECISIONS)}, not {decision!r}.")
    return decision


def _refused_post(system: System) -> Finding:
    """A faulty release: FCM refuses every message."""
    system.push.set(error_rates={"INVALID_ARGUMENT": 1.0})
    _post(system, lambda: _refused(system, "INVALID_ARGUMENT") > FOLLOWERS)
    again = _refused(system, "INVALID_ARGUMENT") > FOLLOWERS
    return exactly("a refused message is sent again", again, False,
                   "What FCM refuses as wrong it refuses the next time too, for ever.")  # fmt: skip


def _overloaded_post(system: System, dead: list[str], decisions: Mapping[str, str]) -> Iterator[Finding]:
    """Every message fails once or more; then FCM is well again, except that some phones are gone."""
    system.push.set(error_rates={"UNAVAILABLE": 0.5, "INTERNAL": 0.5}, dead_tokens=dead)

    def over() -> bool:
        if _tried(system) >= FOLLOWERS:
            system.push.set(error_rates={})
        return _refused(system, "UNREGISTERED") > len(dead) or system.push.counters()["duplicates"] > 0

    _post(system, over)
    counters = system.push.counters()
    called = counters["duplicates"] == 0 and _refused(system, "UNREGISTERED") <= len(dead)
    yield exactly("a phone that is gone, or has it already, is called again", not called, False,
                  "Trying again helps only where the service was at fault.")  # fmt: skip
    if called:
        yield exactly("followers with the app who are not told", FOLLOWERS - len(dead) - counters["devices"], 0,
                      _given_up(decisions), varies=True)  # fmt: skip


def _given_up(decisions: Mapping[str, str]) -> str:
    """Return which decision gives a good phone up."""
    if decisions["INVALID_ARGUMENT"] == "forget":
        return ('Your decision about INVALID_ARGUMENT: the faulty release was refused for everybody, and "forget" '
                "deleted the tokens of good phones. Whose fault was that request?")  # fmt: skip
    for code, decision in decisions.items():
        if code in ("OK", "INVALID_ARGUMENT") and decision == "forget":
            return f'Your decision about {code}: the phone has the app, and "forget" deletes its token.'
        if code in ("UNAVAILABLE", "INTERNAL") and decision != "again":
            return f'Your decision about {code}: the service\'s own troubles pass, and "{decision}" gives the phone up.'
    return "Which of your decisions gives a good phone up?"


def _quiet_post(system: System) -> Finding:
    """Nothing goes wrong: nobody who is gone should be called."""
    _post(system, lambda: _refused(system, "UNREGISTERED") > 0)
    return exactly("phones that are gone, called by a later post", _refused(system, "UNREGISTERED") > 0, False,
                   "Each post pays for them anew. What removes a phone from the list?")  # fmt: skip


def _post(system: System, over: Callable[[], bool]) -> None:
    """Publish a post and wait until it is worked off, or ``over`` says that enough has been seen."""
    system.start_count()
    system.create_post()
    wait_for("The end of the fan-out", lambda: over() or system.unsent() == 0, system)
    if system.unsent():
        _give_up(system)


def _give_up(system: System) -> None:
    """End what an answer would repeat for ever: a new worker finds nothing to do."""
    system.kill_worker()
    with database(system.stack) as connection:
        connection.execute("DELETE FROM outbox")
        connection.execute("UPDATE deliveries SET state = 'finished'")
    system.start_worker()


def _dead(stack: Stack) -> list[str]:
    """Return the tokens of the followers who have removed the app."""
    tokens = f"""
        SELECT token FROM devices JOIN follows ON follower_id = user_id
        WHERE followee_id = {INFLUENCER_ID} AND user_id % {DEAD_EVERY} = 0
    """
    with database(stack) as connection:
        return [token for (token,) in connection.execute(tokens)]


def _refused(system: System, code: str) -> int:
    return system.push.counters()["rejected_by"].get(code, 0)


def _tried(system: System) -> int:
    counters = system.push.counters()
    return counters["accepted"] + counters["rejected"]


read_the_answers = Exercise("Read the answers", TASK, grade, hints=HINTS, solution=solution, points=2,
                            answer="function")
