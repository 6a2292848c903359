"""Incident 1: one post, 45,312 followers.

Source of the facts: Darshan Turakhia, "How a Single Power User's Post Triggered 45,000 DB Queries and Crashed Our
Mobile API".

    from labs import fanout

    retried = fanout.run(followers=45_312, client_retries=True)
    retried.verdict()
"""

from labs.fanout.comparisons import beside_published, hypotheses, ladder
from labs.fanout.experiment import prepare, run
from labs.fanout.knobs import Knobs
from labs.fanout.live import panel, play
from labs.fanout.meet import diagram, diff, follower_chart, show
from labs.fanout.outcome import Outcome
from labs.fanout.published import arithmetic, timeline
from labs.fanout.sweep import sweep
from labs.fanout.work import take_to_work
from labs.kit.ask import ask
from labs.kit.prose import say

__all__ = [
    "Knobs",
    "Outcome",
    "arithmetic",
    "ask",
    "beside_published",
    "diagram",
    "diff",
    "follower_chart",
    "hypotheses",
    "ladder",
    "panel",
    "play",
    "prepare",
    "run",
    "say",
    "show",
    "sweep",
    "take_to_work",
    "timeline",
]
