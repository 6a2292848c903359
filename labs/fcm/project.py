"""One Firebase project as the push server sees it: its settings, its quota, what it has accepted and refused."""

import hashlib
import itertools
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from labs.fcm import answers, messages
from labs.fcm.answers import Answer
from labs.fcm.quota import MinuteBucket
from labs.fcm.settings import Settings

# RFC 6750: "Bearer" 1*SP b68token. A literal "$", as in "Bearer $token", is outside the alphabet.
_BEARER = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE | re.ASCII)
_TWO_TO_64 = 2**64


class Project:
    """The state of one project. Not thread-safe: it lives on the server's one event loop."""

    def __init__(self, name: str, clock: Callable[[], float] = time.time) -> None:
        self.name = name
        self._clock = clock
        self._numbers = itertools.count(1)
        self.reset()

    def reset(self, keep_settings: bool = False) -> None:
        """Forget all that was counted, refill the quota and, unless ``keep_settings``, restore the default settings."""
        self._random = random.Random(self.name)
        # Plain counts, not objects: a dict of them is invisible to the garbage collector, also with a million devices.
        self._accepted_by_device: dict[str, int] = {}
        self._rejected_by_device: dict[str, int] = {}
        self._topics: dict[str, set[str]] = {}
        self._accepted = self._duplicates = self._validated = self._requests = self._batches = 0
        self._rejected_by: Counter[str] = Counter()
        self._first_accepted_at: float | None = None
        self._last_accepted_at: float | None = None
        settings = self.settings if keep_settings else Settings()
        self._bucket = MinuteBucket(settings.quota_per_minute, self._clock)
        self._apply(settings)
        self._failing_batches = set(settings.fail_batches)

    def change(self, changes: Any) -> None:
        """Apply changed settings to requests that arrive from now on. Raises SettingError, and then changes nothing."""
        self._apply(self.settings.changed(changes))
        if "fail_batches" in changes:
            self._failing_batches = {self._batches + number for number in self.settings.fail_batches}

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        self._dead = frozenset(settings.dead_tokens)
        self._bucket.change_limit(settings.quota_per_minute)
        names = list(settings.error_rates)
        self._error_bounds = list(
            zip(itertools.accumulate(settings.error_rates[name] for name in names), names, strict=True)
        )
        self._latency = settings.latency_ms / 1000
        self._sigma = settings.latency_jitter
        # exp(N(mu, sigma)) has the mean exp(mu + sigma²/2)
        self._mu = math.log(self._latency) - self._sigma**2 / 2 if self._latency and self._sigma else 0.0

    def latency(self) -> float:
        """Return how long after its arrival the next request is to be answered, in seconds."""
        if self._sigma and self._latency:
            return self._random.lognormvariate(self._mu, self._sigma)
        return self._latency

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, body: bytes, authorization: str | None) -> Answer:
        """Answer one ``messages:send`` request."""
        self._requests += 1
        return self.deliver(body, authorization)

    def deliver(self, body: bytes, authorization: str | None) -> Answer:
        """Answer one message, sent alone or as part of a batch."""
        refused = self.unauthorized(authorization) or self._over_quota()
        if refused:
            return self._reject(refused)
        try:
            request = messages.read(body)
        except messages.Refused as refusal:
            return self._reject(refusal.answer)
        return self._decide(request)

    def deliver_message(self, message: Any) -> Answer:
        """Answer one message of a simplified batch, given without its envelope; credentials have been checked."""
        refused = self._over_quota()
        if refused:
            return self._reject(refused)
        try:
            request = messages.check({"message": message}, messages.MAX_PAYLOAD + 1)
        except messages.Refused as refusal:
            return self._reject(refusal.answer)
        return self._decide(request)

    def unauthorized(self, authorization: str | None) -> Answer | None:
        """Return the 401 for this Authorization header, or None when it is good."""
        accepted = self.settings.auth
        if accepted == "off":
            return None
        if not authorization:
            return answers.unauthenticated(missing=True)
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None or accepted not in ("bearer", bearer[1]):
            return answers.unauthenticated(missing=False)
        return None

    def _over_quota(self) -> Answer | None:
        if self._bucket.take():
            return None
        return answers.quota_spent(self.name, self._bucket.limit, self._bucket.seconds_to_refill())

    def _decide(self, request: messages.Request) -> Answer:
        kind, target, validate_only = request
        is_device = kind in ("token", "fid")
        refused = self._drawn_error() or (answers.unregistered() if is_device and self._is_dead(target) else None)
        if refused:
            return self._reject(refused, target if is_device else None)
        if validate_only:
            self._validated += 1
            return answers.accepted(f"projects/{self.name}/messages/fake_message_id")
        self._count_accepted(target, is_device)
        return answers.accepted(f"projects/{self.name}/messages/{self._message_id(is_device)}")

    def _count_accepted(self, target: str, is_device: bool) -> None:
        self._accepted += 1
        now = self._clock()
        if self._first_accepted_at is None:
            self._first_accepted_at = now
        self._last_accepted_at = now
        if is_device:
            before = self._accepted_by_device.get(target, 0)
            self._accepted_by_device[target] = before + 1
            if before:
                self._duplicates += 1

    def _message_id(self, is_device: bool) -> str:
        number = next(self._numbers)
        return f"0:{int(self._clock() * 1e6)}%{number:016x}" if is_device else str(10**18 + number)

    def _drawn_error(self) -> Answer | None:
        if not self._error_bounds:
            return None
        drawn = self._random.random()
        for bound, name in self._error_bounds:
            if drawn < bound:
                if name == "RESOURCE_EXHAUSTED":
                    return answers.quota_spent(self.name, self._bucket.limit, self._bucket.seconds_to_refill())
                return answers.ERRORS[name]()
        return None

    def _is_dead(self, token: str) -> bool:
        if token in self._dead:
            return True
        share = self.settings.dead_fraction
        return bool(share) and _position(token) < share

    def _reject(self, answer: Answer, device: str | None = None) -> Answer:
        self._rejected_by[answer.error] += 1
        if device is not None:
            self._rejected_by_device[device] = self._rejected_by_device.get(device, 0) + 1
        return answer

    def refuse_credentials(self, authorization: str | None) -> Answer | None:
        """Count and return the 401 for a request that is not a message, or None when its credentials are good."""
        refused = self.unauthorized(authorization)
        return self._reject(refused) if refused else None

    # -- batches ----------------------------------------------------------------------------------------------------

    def begin_batch(self) -> Answer | None:
        """Count one batch request; return the answer that ends it (retired, or told to fail), or None to go on."""
        self._requests += 1
        if self.settings.retired:
            return answers.not_found("/batch")
        self._batches += 1
        if self._batches in self._failing_batches:
            self._failing_batches.discard(self._batches)
            return answers.unavailable()
        return None

    # -- topics -----------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, token: str) -> Answer:
        """Subscribe a device to a topic."""
        self._topics.setdefault(topic, set()).add(token)
        return answers.empty()

    def unsubscribe(self, topic: str, token: str, allow_missing: bool) -> Answer:
        """End a subscription; one that does not exist is an error unless ``allow_missing``."""
        subscribers = self._topics.get(topic, set())
        if token not in subscribers and not allow_missing:
            return answers.status(404, "NOT_FOUND", "Requested entity was not found.", [], "NOT_FOUND")
        subscribers.discard(token)
        return answers.empty()

    # -- what can be seen from outside ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return settings and counters as JSON has them."""
        settings = self.settings.as_dict()
        settings["fail_batches"] = sorted(number - self._batches for number in self._failing_batches)
        return {"settings": settings, "counters": self.counters()}

    def counters(self) -> dict[str, Any]:
        """Return what this project has counted since its last reset (times in epoch seconds)."""
        return {
            "accepted": self._accepted,
            "devices": len(self._accepted_by_device),
            "duplicates": self._duplicates,
            "validated": self._validated,
            "rejected": self._rejected_by.total(),
            "rejected_by": dict(self._rejected_by),
            "requests": self._requests,
            "batches": self._batches,
            "topics": {topic: len(tokens) for topic, tokens in self._topics.items() if tokens},
            "quota_left": self._bucket.left,
            "first_accepted_at": self._first_accepted_at,
            "last_accepted_at": self._last_accepted_at,
        }

    def tokens(self, least: int = 1, limit: int = 100) -> list[dict[str, Any]]:
        """Return up to ``limit`` devices that were sent to at least ``least`` times, most often accepted first."""
        accepted, rejected = self._accepted_by_device, self._rejected_by_device
        seen = [
            (accepted.get(token, 0), rejected.get(token, 0), token)
            for token in accepted.keys() | rejected.keys()
            if accepted.get(token, 0) + rejected.get(token, 0) >= least
        ]
        seen.sort(key=lambda counts: (-counts[0], -counts[1], counts[2]))
        return [{"token": token, "accepted": taken, "rejected": refused} for taken, refused, token in seen[:limit]]


def _position(token: str) -> float:
    """Place a token on [0, 1), always at the same place."""
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest()) / _TWO_TO_64
