"""The claims about the outage, its cause and the published fix, answered from the first notebook's runs.

All figures are measured or computed from published ones; durations are incident time.
"""

from typing import Any

import numpy as np

from labs.fanout import published as said
from labs.fanout.hold_times import Sweep
from labs.fanout.outcome import CREATE, PATIENCE, Outcome
from labs.fanout.small_runs import FixedRoute, OrdinaryPosts
from labs.kit.ledger import Evidence, Finding, Inquiry, arithmetic, told, told_if_fast, untold
from labs.kit.table import count, percent, seconds
from labs.kit.traces import Trace

outage = Inquiry(said.DATA / "claims.csv")
ABOUT = 1.5  # a speed counts as the published one if it takes at most half as long again


def evidence(**results: Any) -> Evidence:
    """Return what the runs of the outage say of the claims, as a table; ``.verdict()`` has what a test compares.

    ``results``: the notebook's own, by their names there. Raises LedgerError that names each missing one.
    """
    return outage.evidence(**results)


# -- the outage -------------------------------------------------------------------------------------------------------


def _asked_when_full(run: Outcome) -> Any:
    """The readers' requests that were due once the last connection had gone, and that had time for an answer."""
    requests = run.recording.requests.where(who="reader")
    return requests.between(run.pool_full_at, run.recording.seconds - PATIENCE)


def _not_served_when_full(run: Outcome) -> tuple[int, int]:
    asked = _asked_when_full(run)
    return int((~(asked.ok & (asked.latency <= PATIENCE))).sum()), len(asked)


@outage.answers("F01")
def crash_reports(retried: Outcome) -> Finding:
    failed, asked = _not_served_when_full(retried)
    return untold(f"there is no app that could crash; of {count(asked)} requests by readers after the last connection "
                  f"had gone, {count(failed)} had no good answer within {PATIENCE:g} s")  # fmt: skip


@outage.answers("F02")
def share_of_503(retried: Outcome) -> Finding:
    failed, asked = _not_served_when_full(retried)
    over = retried.recording.requests.where(who="reader").between(after=retried.posted_at)
    refused = int((over.outcome == "unavailable").sum())
    share = percent(failed / asked) if asked else "none"
    return untold(f"{share} of readers not served once the pool was gone, {percent(retried.failed_of_all)} over the "
                  f"whole run, {count(refused)} requests answered 503; the share is a matter of pods and of the "
                  f"dashboard's window")  # fmt: skip


@outage.answers("F03", depends_on_speed=True)
def refused_within(alone: Outcome, retried: Outcome) -> Finding:
    in_time = retried.pool_full_at - retried.posted_at <= said.value("refusing_after")
    return told_if_fast(in_time, f"the last connection gone {retried.full_after} after the post with a retry every "
                                 f"{retried.knobs.client_timeout_s:g} s, {alone.full_after} without")  # fmt: skip


@outage.answers("F04", depends_on_speed=True)
def waits_then_503(retried: Outcome, twenty: Outcome) -> Finding:
    waited = np.concatenate([run.recording.wait_timeouts.waited for run in (retried, twenty)])
    refused = sum(int((run.recording.requests.outcome == "unavailable").sum()) for run in (retried, twenty))
    if not len(waited):
        return untold("no request had waited that long when the runs ended")
    patient = bool((waited >= 0.98 * retried.knobs.pool_timeout_s).all())
    return told(patient and refused > 0, f"{count(len(waited))} requests gave up on a connection after "
                                         f"{seconds(float(np.median(waited)))} at the median; {count(refused)} were "
                                         f"answered 503")  # fmt: skip


@outage.answers("F05")
def restored(retried: Outcome, line: Sweep) -> Finding:
    return untold(f"still down when the run ended, {seconds(retried.after_post)} after the post; by the straight line "
                  f"one loop alone lasts {line.held_at(retried.knobs.followers)}")  # fmt: skip


@outage.answers("F06")
def ordinary_posts_do_no_harm(ordinary: OrdinaryPosts) -> Finding:
    day = int(said.value("ordinary_posts"))
    harmless = ordinary.longest_hold < said.value("pool_timeout")
    return told(harmless, f"{count(ordinary.posts)} posts to {count(ordinary.followers)} followers, all answered: a "
                          f"connection held {seconds(ordinary.longest_hold)} at most; {count(day)} of them would keep "
                          f"one connection busy for {seconds(ordinary.busy(day))} of the day")  # fmt: skip


@outage.answers("F07")
def no_traffic_flood(busier: Outcome) -> Finding:
    return told(not busier.down, f"feed in {busier.feed_p50}, {count(busier.failed_requests)} of "
                                 f"{count(busier.sent_requests)} requests failed, at most {busier.most_connections} of "
                                 f"{busier.all_connections} connections in use")  # fmt: skip


@outage.answers("F08", depends_on_speed=True)
def no_slow_query(life: Outcome) -> Finding:
    looks = life.recording.postgres.between(after=life.posted_at)
    longest = max((row["state_age"] for rows in looks.rows for row in rows if row["state"] == "active"), default=0.0)
    look_ups = sum(each.calls for each in life.recording.statements if "FROM devices" in " ".join(each.text.split()))
    fast = longest * 1000 <= said.value("slow_query_limit")
    return told_if_fast(fast, f"the longest statement found running had taken {seconds(longest)}, in {len(looks)} "
                              f"looks; {count(look_ups)} look-ups of a device")  # fmt: skip


@outage.answers("F09")
def restart_bought_minutes(restarted: Outcome) -> Finding:
    returned = restarted.recovery != "no time at all"
    return told(returned, f"every connection gone again {restarted.recovery} after the restart, with a retry every "
                          f"{restarted.knobs.client_timeout_s:g} s; as long as published would be a retry every "
                          f"{seconds(said.value('restart_helped') / restarted.all_connections)}, or less")  # fmt: skip


@outage.answers("F10", depends_on_speed=True)
def looked_manageable(life: Outcome) -> Finding:
    share = life.pod_cores / life.recording.cores
    memory = life.recording.processes.where(name="api-1").between(after=life.posted_at).rss / 1e6
    figure = (f"{life.pod_cores:.2f} of {life.recording.cores} processors busy, {percent(share)} of the machine, and "
              f"of the one interpreter {percent(life.pod_cores)}; {memory[0]:.0f} to {memory[-1]:.0f} MB; "
              f"{life.knobs.request_rate:g} requests a second as before")  # fmt: skip
    return told(share < 0.8, figure)


@outage.answers("F11")
def trace_led_to_one_endpoint(retried: Outcome) -> Finding:
    slow = retried.traces.longer_than(said.value("trace_filter")).by_endpoint()
    calls = dict(zip(slow.column("endpoint"), slow.column("database calls in one"), strict=True))
    ours, others = calls.pop(CREATE, 0), max(calls.values(), default=0)
    figure = (f"{len(slow)} endpoints passed the filter; one trace of {CREATE} had {count(ours)} database calls so "
              f"far, no trace of another endpoint more than {others}")  # fmt: skip
    return told(ours > 3 * max(others, 1), figure)


# -- the arithmetic ---------------------------------------------------------------------------------------------------

ARITHMETIC = ("fanout.arithmetic",)


def _look_ups() -> float:
    return said.value("followers") * said.value("token_lookup") / 1000


def _calls() -> float:
    return said.value("followers") * said.value("fcm_call") / 1000


def _agree(published: float, computed: float) -> bool:
    return abs(published - computed) <= 0.02 * published


@outage.answers("F12", shown=ARITHMETIC)
def device_look_ups() -> Finding:
    return arithmetic(_agree(said.value("token_lookups"), _look_ups()), seconds(_look_ups()))


@outage.answers("F13", shown=ARITHMETIC)
def calls_to_fcm() -> Finding:
    return arithmetic(_agree(said.value("fcm_calls"), _calls()), seconds(_calls()))


@outage.answers("F14", shown=ARITHMETIC)
def serial_work(line: Sweep) -> Finding:
    work = _look_ups() + _calls()
    measured = line.held_at(int(said.value("followers")))
    figure = f"{seconds(work)}; by our straight line, with our processor's part, {measured}"
    return arithmetic(_agree(said.value("serial_work"), work), figure)


@outage.answers("F15", shown=ARITHMETIC)
def whole_request() -> Finding:
    work, whole = _look_ups() + _calls(), said.value("whole_request")
    return arithmetic(_agree(whole, work), f"its parts make {seconds(work)}; a trace that long ends after "
                                           f"{count(whole / work * said.value('followers'))} followers, as one that a "
                                           f"time-out cuts off")  # fmt: skip


# -- the cause --------------------------------------------------------------------------------------------------------


@outage.answers("F16")
def held_for_the_loop(alone: Outcome) -> Finding:
    held = bool(alone.calls_out_with_connection) and alone.connections_by_post > 0
    return told(held, f"one hold of {seconds(alone.longest_hold)} in {seconds(alone.after_post)} after the post, "
                      f"through {count(alone.delivered)} calls to the push service, and not over")  # fmt: skip


@outage.answers("F17")
def one_post_takes_all(alone: Outcome, retried: Outcome) -> Finding:
    takes_all = alone.connections_by_post >= alone.all_connections
    return told(takes_all, f"{alone.connections_by_post} of {alone.all_connections} with a patient phone; "
                           f"{retried.connections_by_post} of {retried.all_connections} with one that retries, "
                           f"{retried.full_after} after the post, when it had sent it "
                           f"{retried.attempts_until_full} times")  # fmt: skip


@outage.answers("F18")
def twenty_posts(twenty: Outcome) -> Finding:
    figure = (f"{twenty.connections_by_post} of {twenty.all_connections} connections gone {twenty.full_after} after "
              f"the click, the API {'down' if twenty.down else 'up'}; an exhausted pool rather than a deadlock: the "
              f"loops went on and reached {count(twenty.delivered)} phones")  # fmt: skip
    return told(twenty.pool_exhausted and twenty.down, figure)


# -- the published fix ------------------------------------------------------------------------------------------------


def _about(ours: float, published_ms: float) -> bool:
    return ours * 1000 <= ABOUT * published_ms


def _post_of(run: Outcome) -> Trace:
    """The trace of the run's last post; those of the warm-up come before it."""
    return run.traces.where(endpoint=CREATE)[-1]


@outage.answers("F19", depends_on_speed=True)
def held_briefly(fixed: Outcome) -> Finding:
    return told_if_fast(_about(fixed.longest_hold, said.value("fixed_hold")), f"{seconds(fixed.longest_hold)} at most")


@outage.answers("F20", depends_on_speed=True)
def enqueueing(fixed: Outcome) -> Finding:
    spent = [span.duration for span in _post_of(fixed).spans if span.name.startswith("apply_async/")]
    took = max(spent, default=float("nan"))
    return told_if_fast(_about(took, 2 * said.value("enqueue") / ABOUT), f"{seconds(took)} in the trace of the post")


@outage.answers("F21", depends_on_speed=True)
def answers_quickly(fixed: Outcome) -> Finding:
    return told_if_fast(_about(fixed.response(), said.value("fixed_response_drawn")), seconds(fixed.response()))


@outage.answers("F22")
def batches(fixed: Outcome) -> Finding:
    sent = max((int(batches) for batches in fixed.recording.fcm[-1:].batches), default=0)
    return told(sent == said.value("batches"), f"{count(fixed.delivered)} in {count(sent)} batches")


@outage.answers("F23", depends_on_speed=True)
def fan_out_time(fixed: Outcome) -> Finding:
    sequence = said.value("batches") * said.value("batch_call") / 1000
    return told_if_fast(_about(fixed.last_after, 1000 * said.value("fan_out")),
                        f"{fixed.last_notification} from the post to the last notification; the batches one after "
                        f"another make {seconds(sequence)}, so nothing ran in parallel")  # fmt: skip


@outage.answers("F24", depends_on_speed=True)
def api_available(fixed: Outcome) -> Finding:
    return told(fixed.failed_requests == 0 and not fixed.down,
                f"{count(fixed.failed_requests)} of {count(fixed.sent_requests)} requests by readers failed during the "
                f"fan-out; feed in {fixed.feed_p50}")  # fmt: skip


@outage.answers("F26")
def one_query(retried: Outcome, fixed: Outcome) -> Finding:
    ours, before = (_device_queries(trace) for trace in (_post_of(fixed), _longest_post(retried)))
    return told(ours == 1 < before, f"{ours} in the trace of the post; the loop had made {count(before)} when its run "
                                    f"ended")  # fmt: skip


def _longest_post(run: Outcome) -> Trace:
    return run.traces.where(endpoint=CREATE).longest()


def _device_queries(trace: Trace) -> int:
    return sum("FROM devices" in span.statement for span in trace.spans)


@outage.answers("F30", depends_on_speed=True)
def flat_in_followers(flat: FixedRoute) -> Finding:
    few, many = (float(np.median(answers)) for answers in (flat.few, flat.many))
    return told_if_fast(flat.ratio <= 1.2, f"{flat.ratio:.2f}: {seconds(many)} at {count(flat.followers[1])} followers "
                                           f"against {seconds(few)} at {count(flat.followers[0])}")  # fmt: skip


@outage.answers("F31")
def small_seed_hides_it(line: Sweep) -> Finding:
    seed, everybody = int(said.value("seed_followers")), int(said.value("followers"))
    patience = said.value("pool_timeout")
    hidden = _on_line(line, seed) < patience < _on_line(line, everybody)
    return told(hidden, f"a connection held {line.held_at(seed)} at {seed} followers, and by the straight line "
                        f"{line.held_at(everybody)} at {count(everybody)}")  # fmt: skip


def _on_line(line: Sweep, followers: int) -> float:
    return float(np.polyval(np.polyfit(line.followers, line.held, 1), followers))
