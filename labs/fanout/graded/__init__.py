"""The graded exercises of incident 1: each reruns the outage against the learner's code or numbers.

    from labs import fanout

    exercise = fanout.exercises["The last connection"]
    exercise.check(12)
    fanout.exercises.progress()
"""

from labs.fanout.graded.activity import find_the_hog
from labs.fanout.graded.attempts import last_connection
from labs.fanout.graded.decisions import read_the_answers
from labs.fanout.graded.redelivery import killed_worker
from labs.fanout.graded.sizing import fleet_size
from labs.fanout.graded.tokens import bulk_query
from labs.kit.grading import Exercises

__all__ = [
    "bulk_query", "exercises", "find_the_hog", "fleet_size", "killed_worker", "last_connection", "read_the_answers",
]

exercises = Exercises("Incident 1")
for _each in (last_connection, bulk_query, find_the_hog, fleet_size, killed_worker, read_the_answers):
    exercises.add(_each)
