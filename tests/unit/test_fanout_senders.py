"""Ways of sending, compared: the figures are the server's own, and a sender that fails says why."""

import os
from dataclasses import replace

import psutil
import pytest

from labs import stack as labs_stack
from labs.fanout import senders
from labs.fanout.senders import COURIER, COURIER_500, HTTPX_10, HTTPX_100, ONE_BY_ONE, SEND_EACH, WAYS, Senders, Sent
from labs.fcm import Admin

pytestmark = pytest.mark.live

RATES = {COURIER: 1800, COURIER_500: 4000, SEND_EACH: 720, HTTPX_10: 190, HTTPX_100: 140, ONE_BY_ONE: 20}


def made(**changes):
    """A comparison with invented rates; ``changes``: fields of the courier's."""
    sent = {way: Sent(way, 100, 100 / rate, accepted=100, duplicates=0) for way, rate in RATES.items()}
    sent[COURIER] = replace(sent[COURIER], **changes)
    return Senders(tuple(sent.values()))


def test_every_way_sends_each_message_once_and_leaves_nothing_behind(stack: labs_stack.Stack):
    with Admin(stack.fcm.url, stack.project) as ours:
        ours.reset()
        ours.set(latency_ms=7)
        compared = senders.compare_senders(messages=100)
        state = ours.state()
    assert [each.way for each in compared.sent] == list(WAYS)
    assert all(each.once_each and each.seconds > 0 for each in compared.sent)
    assert compared.verdict()["accepted once each"] is True
    assert (state["settings"]["latency_ms"], state["counters"]["requests"]) == (7, 0)
    left = [each for each in psutil.Process(os.getpid()).children() if "sender_process" in " ".join(each.cmdline())]
    assert left == []


def test_a_sender_that_fails_says_why_in_its_own_words(stack: labs_stack.Stack):
    with Admin(stack.fcm.url, "strict") as push:
        push.set(auth="another-token")
        refused = pytest.raises(RuntimeError, match=r"HTTP v1, 100 in flight \(aiohttp\).*UNAUTHENTICATED")
        with refused, senders.sending(COURIER, push) as sender:
            sender.hear()


def test_two_processes_send_at_the_same_time_and_one_call_may_be_larger_than_a_chunk(stack: labs_stack.Stack):
    at_once = senders.Way("everything in one call", "courier_at_once", 50, 1.0)
    own = senders.own_project(stack)
    with own as push, senders.sending(at_once, push) as one, senders.sending(COURIER, push) as two:
        assert (one.hear(), two.hear()) == ({"ready": "courier_at_once"}, {"ready": "courier"})
        push.reset(keep_settings=True)
        one.begin(600)
        two.begin(600)
        assert one.hear()["seconds"] > 0
        assert two.hear()["seconds"] > 0
        counters = push.counters()
    assert (counters["accepted"], counters["devices"]) == (1200, 600)  # both begin with the same 600 phones


@pytest.mark.parametrize("changes", [{"accepted": 99}, {"accepted": 101, "duplicates": 1}, {"duplicates": 1}])
def test_a_lost_or_a_doubled_message_turns_the_verdict(changes):
    assert made().verdict()["accepted once each"] is True
    assert made(**changes).verdict()["accepted once each"] is False


def test_the_verdict_follows_the_rates():
    fact = "many in flight faster than the official client's send_each"
    assert made(seconds=0.05).verdict()[fact] is True
    assert made(seconds=0.2).verdict()[fact] is False


def test_the_table_sets_each_way_against_send_each():
    table = made(seconds=0.05).table()
    against = dict(zip(table.column("sender"), table.column("against send_each"), strict=True))
    assert against[COURIER.name] == "2.8 ×"
    assert against[SEND_EACH.name] == "1 ×"


def test_the_title_of_the_chart_states_both_ratios():
    chart = made(seconds=0.05).chart()
    assert "2.8 times Google's own client, 5.6 times with as many in flight" in chart.title.replace("\n", " ")


@pytest.mark.parametrize("messages", [100, 2_000, 20_000])
def test_every_way_sends_several_times_as_many_messages_as_it_has_in_flight(messages):
    assert all(way.messages(messages) >= 4 * way.in_flight for way in WAYS)


@pytest.mark.parametrize("messages", [0, 99, 20_001, "many", None, True, 500.5])
def test_a_number_of_messages_out_of_range_is_refused_with_the_range(messages):
    with pytest.raises(ValueError, match="messages must be a whole number from 100 to 20,000"):
        senders.compare_senders(messages=messages)
