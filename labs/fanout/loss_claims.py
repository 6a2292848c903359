"""The claims about what the published fix still loses, answered from the second notebook's runs."""

from typing import Any

from labs.fanout import published as said
from labs.fanout.crash_kills import Kills
from labs.fanout.crashes import Crash, CrashTests
from labs.fanout.defects_answers import IgnoredStatus, LiteralDollar, RetiredEndpoint, UnreadResults
from labs.fanout.defects_counts import BATCH_SIZE, BatchCount, PhonesOfFollowers
from labs.fanout.defects_lock import LARGE, LockPerAuthor
from labs.fanout.outcome import Outcome
from labs.fanout.senders import Senders
from labs.fanout.small_runs import StaleCounts
from labs.kit.ledger import Evidence, Finding, Inquiry, LedgerError, arithmetic, told
from labs.kit.table import count, seconds

losses = Inquiry(said.DATA / "claims.csv")
PUBLISHED, TODAY = "published fix", "today"
API_KILLED, WORKER_KILLED = "API killed between commit and enqueue", "worker killed in mid fan-out"
WORKER_RESTARTED = "worker restarted in mid fan-out"
BATCH_FAILS = "one batch fails once"


def evidence_of_losses(**results: Any) -> Evidence:
    """Return what the runs of the published fix and the steps after it say of the claims, as ``evidence`` does."""
    return losses.evidence(**results)


def _crash(crashes: CrashTests, fault: str, step: str) -> Crash:
    for crash in crashes.crashes:
        if (crash.fault, crash.step) == (fault, step):
            return crash
    raise LedgerError(f"crashes must hold {fault!r} of {step!r}; they hold {', '.join(map(repr, crashes.crashes))}.")


# -- crashes ----------------------------------------------------------------------------------------------------------


@losses.answers("F25")
def tasks_survive(crashes: CrashTests, kills: Kills) -> Finding:
    restarted, killed, failed = (
        _crash(crashes, fault, PUBLISHED) for fault in (WORKER_RESTARTED, WORKER_KILLED, BATCH_FAILS)
    )
    figure = (f"{count(restarted.lost)} notifications lost when the worker is asked to stop, {count(killed.lost)} of "
              f"{count(killed.followers)} when it is killed; {count(failed.lost)} when a batch failed and was tried "
              f"again; {count(kills.lost)} by the last step in {len(kills.kills)} kills")  # fmt: skip
    return told(restarted.lost == killed.lost == 0, figure)


@losses.answers("F34")
def resends_delivered_batches(crashes: CrashTests) -> Finding:
    ours, todays = (_crash(crashes, BATCH_FAILS, step) for step in (PUBLISHED, TODAY))
    return told(ours.sent_twice > 0, f"{count(ours.sent_twice)} of {count(ours.followers)} sent twice when one batch "
                                     f"failed once; {count(todays.sent_twice)} by the last step")  # fmt: skip


@losses.answers("F35")
def crash_before_enqueue(crashes: CrashTests) -> Finding:
    ours, todays = (_crash(crashes, API_KILLED, step) for step in (PUBLISHED, TODAY))
    return told(ours.lost_all, f"{count(ours.lost)} of {count(ours.followers)} notifications lost of a post that is in "
                               f"the feed; {count(todays.lost)} with the outbox")  # fmt: skip


# -- the throttle -----------------------------------------------------------------------------------------------------


@losses.answers("F27")
def counts_out_of_date(stale: StaleCounts) -> Finding:
    figure = (f"an author who had grown from {count(stale.followers_counted)} to {count(stale.followers)} followers "
              f"had {stale.before} of 2 posts let through before the refresh, {stale.after} of 2 after it; the "
              f"throttle is up to {seconds(stale.interval)} late")  # fmt: skip
    return told((stale.before, stale.after) == (2, 1), figure)


@losses.answers("F28")
def one_fan_out_a_minute(throttled: Outcome) -> Finding:
    wanted = throttled.knobs.followers
    return told(throttled.accepted == wanted, f"of {throttled.knobs.posts} posts at once, "
                                              f"{throttled.accepted / wanted:.3g} went out")  # fmt: skip


@losses.answers("F29")
def bounds_power_users(crowd: LockPerAuthor) -> Finding:
    ours, ordered = crowd.published, crowd.nothing_lost
    figure = (f"{ours.let_through} of {len(LARGE)} large authors let through at once; an everyday author's followers "
              f"waited {seconds(ours.waited)}, and {seconds(ordered.waited)} where the chunks of all are bounded")
    return told(ours.let_through < len(LARGE), figure)


@losses.answers("F40")
def throttled_post(throttled: Outcome, merged: Outcome) -> Finding:
    figure = (f"dropped: {count(throttled.lost)} notifications of the second post never went out, and nothing says so; "
              f"by the step that loses nothing merged: {merged.merged} post went out with another, "
              f"{count(merged.lost)} lost")  # fmt: skip
    return told(throttled.lost == throttled.knobs.followers, figure)


# -- the published code's own defects ---------------------------------------------------------------------------------


@losses.answers("F32")
def literal_dollar_sign(dollar: LiteralDollar) -> Finding:
    refused = dollar.as_it_failed.refused.get("UNAUTHENTICATED", 0)
    refused_all = refused == dollar.followers and dollar.as_it_failed.reached == 0 and dollar.right.reached > 0
    return told(refused_all, f"{count(refused)} of {count(dollar.followers)} refused with 401, "
                             f"{count(dollar.as_it_failed.reached)} phones reached; {count(dollar.right.reached)} with "
                             f"the right header")  # fmt: skip


@losses.answers("F33")
def answers_ignored(ignored: IgnoredStatus) -> Finding:
    ours = ignored.as_it_failed
    silent = ours.told_ok and not ours.reached and not ours.complaints
    return told(silent, f"{ours.refusals} refused, {count(ours.reached)} of {count(ignored.followers)} phones reached, "
                        f"{count(ours.complaints)} lines logged, the author told "
                        f"{'ok' if ours.told_ok else 'of a failure'}")  # fmt: skip


@losses.answers("F36")
def every_device(phones: PhonesOfFollowers) -> Finding:
    changed = phones.published > phones.as_it_failed
    return told(changed, f"to {count(phones.followers)} followers, {count(phones.as_it_failed)} notifications by the "
                         f"old loop and {count(phones.published)} by the joined query")  # fmt: skip


@losses.answers("F37")
def one_batch_too_many(counted: BatchCount) -> Finding:
    exact = [post for post in counted.posts if post.followers % BATCH_SIZE == 0]
    one_more = bool(exact) and all(post.logged == post.received + 1 for post in exact)
    said_and_sent = [f"{post.logged} logged, {post.received} sent at {count(post.followers)}" for post in counted.posts]
    return arithmetic(one_more, "; ".join(said_and_sent))


@losses.answers("F38")
def dead_tokens_stay(unread: UnreadResults) -> Finding:
    ours, todays = unread.published, unread.today
    stay = ours.gone > 0 and ours.gone_again == ours.gone and ours.forgotten == 0
    return told(stay, f"{count(ours.gone)} of {count(unread.followers)} phones gone, {count(ours.forgotten)} tokens "
                      f"forgotten, {count(ours.gone_again)} called again by the next post; the last step calls "
                      f"{count(todays.gone_again)} of them again")  # fmt: skip


@losses.answers("F39")
def batch_endpoint_gone(retired: RetiredEndpoint, senders: Senders) -> Finding:
    gone = retired.published.reached == 0 and retired.sent.reached == retired.followers
    return told(gone, f"{count(retired.published.reached)} of {count(retired.followers)} phones reached in batches, "
                      f"{count(retired.sent.reached)} one message a request; many in flight send "
                      f"{senders.ratio:.1f} times what the official client's send_each does")  # fmt: skip
