"""What can be changed about the mock while it runs, and the sentences that refuse a bad value."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from labs.fcm.answers import ERRORS

DEFAULT_QUOTA_PER_MINUTE = 600_000  # https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas
LONGEST_LATENCY_MS = 600_000
LARGEST_QUOTA = 1_000_000_000


class SettingError(ValueError):
    """A setting was refused; the message names it, what it got and what it allows."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How one project's FCM behaves.

    latency_ms: mean time from the arrival of a request to its answer, in milliseconds (45: the post-mortem's average)
    latency_jitter: 0 answers always after the mean; above 0 the latency is lognormal with this sigma and the same mean
    error_rates: share of messages, 0 to 1, refused with each error
    dead_tokens: registration tokens or installation ids that answer UNREGISTERED
    dead_fraction: share of all tokens, 0 to 1, that answer UNREGISTERED; always the same tokens
    quota_per_minute: messages allowed in each minute
    retired: True makes the batch endpoint answer as it does today, 404 and a page of HTML
    auth: "off", "bearer" (any well-formed bearer token) or the one access token that is accepted
    fail_batches: [1, 3] lets the first and the third of the batch requests still to come fail once with 503
    """

    latency_ms: float = 45.0
    latency_jitter: float = 0.0
    error_rates: dict[str, float] = field(default_factory=dict)
    dead_tokens: tuple[str, ...] = ()
    dead_fraction: float = 0.0
    quota_per_minute: int = DEFAULT_QUOTA_PER_MINUTE
    retired: bool = False
    auth: str = "bearer"
    fail_batches: tuple[int, ...] = ()

    def changed(self, changes: Any) -> "Settings":
        """Return these settings with ``changes`` (a dict) applied, or raise SettingError."""
        if not isinstance(changes, dict):
            raise SettingError(f"settings: got {_said(changes)}, but a JSON object of settings is expected.")
        known = [entry.name for entry in fields(self)]
        for name in changes:
            if name not in known:
                raise SettingError(f"{name}: there is no such setting; the settings are {', '.join(known)}.")
        return replace(self, **{name: _CHECKS[name](name, value) for name, value in changes.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON has them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _said(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def _refuse(name: str, got: Any, allowed: str) -> SettingError:
    return SettingError(f"{name}: got {_said(got)}, but {allowed}.")


def _number(low: float, high: float, unit: str):
    allowed = f"it must be {unit} from {low:g} to {high:,.0f}"

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _refuse(name, value, allowed)
        if not low <= value <= high:
            raise _refuse(name, value, allowed)
        return float(value)

    return check


def _whole_number(low: int, high: int):
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refuse(name, value, f"it must be a whole number from {low:,} to {high:,}")
        return value

    return check


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, value, "it must be true or false")
    return value


def _error_rates(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise _refuse(name, value, 'it must be an object such as {"UNAVAILABLE": 0.1}')
    for error in value:
        if error not in ERRORS:
            raise SettingError(f"{name}: got the error {_said(error)}, but it must be one of {', '.join(ERRORS)}.")
    share = _number(0, 1, "a share")
    rates = {error: share(f"{name}.{error}", rate) for error, rate in value.items()}
    if math.fsum(rates.values()) > 1 + 1e-9:
        raise _refuse(name, value, "the shares must not add up to more than 1")
    return rates


def _tokens(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(token, str) and token for token in value):
        raise _refuse(name, value, "it must be a list of registration tokens, each a non-empty string")
    return tuple(value)


def _access_token(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or value != value.strip():
        raise _refuse(name, value, 'it must be "off", "bearer" or the one access token to accept')
    return value


def _batch_numbers(name: str, value: Any) -> tuple[int, ...]:
    good = isinstance(value, list | tuple) and all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in value
    )
    if not good:
        raise _refuse(name, value, "it must be a list of whole numbers from 1 up, 1 being the next batch request")
    return tuple(sorted(set(value)))


_CHECKS = {
    "latency_ms": _number(0, LONGEST_LATENCY_MS, "a number of milliseconds"),
    "latency_jitter": _number(0, 1, "a number"),
    "error_rates": _error_rates,
    "dead_tokens": _tokens,
    "dead_fraction": _number(0, 1, "a share"),
    "quota_per_minute": _whole_number(0, LARGEST_QUOTA),
    "retired": _yes_or_no,
    "auth": _access_token,
    "fail_batches": _batch_numbers,
}
