"""Settings of the mock: what they allow, and the sentence that refuses the rest."""

import math

import pytest

from labs.fcm.settings import SettingError, Settings


def test_the_defaults_are_those_of_the_outage():
    assert Settings().as_dict() == {
        "latency_ms": 45.0,
        "latency_jitter": 0.0,
        "error_rates": {},
        "dead_tokens": [],
        "dead_fraction": 0.0,
        "quota_per_minute": 600_000,
        "retired": False,
        "auth": "bearer",
        "fail_batches": [],
    }


def test_a_change_leaves_the_other_settings_alone():
    changed = Settings(auth="off").changed({"latency_ms": 4.5, "retired": True})
    assert changed == Settings(latency_ms=4.5, retired=True, auth="off")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("latency_ms", -1, "latency_ms: got -1, but it must be a number of milliseconds from 0 to 600,000."),
        ("latency_ms", "45", "latency_ms: got '45', but it must be a number of milliseconds from 0 to 600,000."),
        ("latency_ms", math.nan, "latency_ms: got nan, but it must be a number of milliseconds from 0 to 600,000."),
        ("latency_ms", True, "latency_ms: got True, but it must be a number of milliseconds from 0 to 600,000."),
        ("latency_jitter", 1.5, "latency_jitter: got 1.5, but it must be a number from 0 to 1."),
        ("error_rates", [], 'error_rates: got [], but it must be an object such as {"UNAVAILABLE": 0.1}.'),
        ("error_rates", {"INTERNAL": 2}, "error_rates.INTERNAL: got 2, but it must be a share from 0 to 1."),
        ("dead_tokens", "a", "dead_tokens: got 'a', but it must be a list of registration tokens, each a non-empty "
                             "string."),
        ("dead_fraction", math.inf, "dead_fraction: got inf, but it must be a share from 0 to 1."),
        ("quota_per_minute", 0.5, "quota_per_minute: got 0.5, but it must be a whole number from 0 to 1,000,000,000."),
        ("retired", "yes", "retired: got 'yes', but it must be true or false."),
        ("auth", "", "auth: got '', but it must be \"off\", \"bearer\" or the one access token to accept."),
        ("fail_batches", [0], "fail_batches: got [0], but it must be a list of whole numbers from 1 up, 1 being the "
                              "next batch request."),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_the_field_the_value_and_what_is_allowed(name, value, said):
    with pytest.raises(SettingError) as refused:
        Settings().changed({name: value})
    assert str(refused.value) == said


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(SettingError, match=r"^latency: there is no such setting; the settings are latency_ms, .*\.$"):
        Settings().changed({"latency": 45})


def test_an_unknown_error_is_refused_with_the_known_ones():
    with pytest.raises(SettingError, match=r"got the error 'TEAPOT', but it must be one of .*UNREGISTERED.*INTERNAL"):
        Settings().changed({"error_rates": {"TEAPOT": 0.1}})


def test_error_rates_that_add_up_to_more_than_one_are_refused():
    with pytest.raises(SettingError, match="must not add up to more than 1"):
        Settings().changed({"error_rates": {"INTERNAL": 0.6, "UNAVAILABLE": 0.6}})


def test_settings_that_are_no_object_are_refused():
    with pytest.raises(SettingError, match="a JSON object of settings is expected"):
        Settings().changed([1])
