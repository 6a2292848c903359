"""Incident 1: one post, 45,312 followers.

Source of the facts: Darshan Turakhia, "How a Single Power User's Post Triggered 45,000 DB Queries and Crashed Our
Mobile API".

    from labs import fanout

    retried = fanout.run(followers=45_312, client_retries=True)
    retried.verdict()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labs.fanout.comparisons import beside_published, hypotheses, ladder
    from labs.fanout.crash_kills import random_kills
    from labs.fanout.crashes import crash, crash_course, crash_tests
    from labs.fanout.defects import defect_facts, defect_list
    from labs.fanout.defects_answers import ignored_status, literal_dollar, retired_endpoint, unread_results
    from labs.fanout.defects_counts import batch_count, phones_of_followers
    from labs.fanout.defects_lock import lock_per_author
    from labs.fanout.experiment import prepare, run
    from labs.fanout.graded import (
        bulk_query,
        exercises,
        find_the_hog,
        fleet_size,
        killed_worker,
        last_connection,
        read_the_answers,
    )
    from labs.fanout.hold_times import sweep
    from labs.fanout.knobs import Knobs
    from labs.fanout.live import panel, play
    from labs.fanout.loss_claims import evidence_of_losses
    from labs.fanout.meet import diagram, diff, follower_chart, show, show_source
    from labs.fanout.outage_claims import evidence
    from labs.fanout.outcome import Outcome
    from labs.fanout.published import arithmetic, timeline
    from labs.fanout.senders import compare_senders
    from labs.fanout.small_runs import fixed_route, ordinary_posts, stale_counts
    from labs.fanout.work import take_to_work
    from labs.kit.ask import ask
    from labs.kit.prose import say

_HOMES = {
    "labs.fanout.comparisons": ("beside_published", "hypotheses", "ladder"),
    "labs.fanout.crash_kills": ("random_kills",),
    "labs.fanout.crashes": ("crash", "crash_course", "crash_tests"),
    "labs.fanout.defects": ("defect_facts", "defect_list"),
    "labs.fanout.defects_answers": ("ignored_status", "literal_dollar", "retired_endpoint", "unread_results"),
    "labs.fanout.defects_counts": ("batch_count", "phones_of_followers"),
    "labs.fanout.defects_lock": ("lock_per_author",),
    "labs.fanout.experiment": ("prepare", "run"),
    "labs.fanout.knobs": ("Knobs",),
    "labs.fanout.live": ("panel", "play"),
    "labs.fanout.loss_claims": ("evidence_of_losses",),
    "labs.fanout.meet": ("diagram", "diff", "follower_chart", "show", "show_source"),
    "labs.fanout.outcome": ("Outcome",),
    "labs.fanout.outage_claims": ("evidence",),
    "labs.fanout.published": ("arithmetic", "timeline"),
    "labs.fanout.graded": (
        "bulk_query",
        "exercises",
        "find_the_hog",
        "fleet_size",
        "killed_worker",
        "last_connection",
        "read_the_answers",
    ),
    "labs.fanout.hold_times": ("sweep",),
    "labs.fanout.senders": ("compare_senders",),
    "labs.fanout.small_runs": ("fixed_route", "ordinary_posts", "stale_counts"),
    "labs.fanout.work": ("take_to_work",),
    "labs.kit.ask": ("ask",),
    "labs.kit.prose": ("say",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Knobs",
    "Outcome",
    "arithmetic",
    "ask",
    "batch_count",
    "beside_published",
    "bulk_query",
    "compare_senders",
    "crash",
    "crash_course",
    "crash_tests",
    "defect_facts",
    "defect_list",
    "diagram",
    "diff",
    "evidence",
    "evidence_of_losses",
    "exercises",
    "find_the_hog",
    "fixed_route",
    "fleet_size",
    "follower_chart",
    "hypotheses",
    "ignored_status",
    "killed_worker",
    "ladder",
    "last_connection",
    "literal_dollar",
    "lock_per_author",
    "ordinary_posts",
    "panel",
    "phones_of_followers",
    "play",
    "prepare",
    "random_kills",
    "read_the_answers",
    "retired_endpoint",
    "run",
    "say",
    "show",
    "show_source",
    "stale_counts",
    "sweep",
    "take_to_work",
    "timeline",
    "unread_results",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for.

    The pods import the steps from this package too; they must not load charts and widgets for it.
    """
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
