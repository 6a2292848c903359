"""The knobs of incident 1, in incident units, with the values of the post-mortem as defaults."""

from typing import Any

from labs.fanout.steps import STEPS, step_of
from labs.kit.knobs import Knobs as KnobsBase
from labs.kit.knobs import choice, number, switch, whole

# What a real team changes by deploying: the pods restart for it. Everything else changes under a running system.
DEPLOYED = ("pool_size", "pool_timeout_s", "threads", "pods", "step", "workers", "trace")


class Knobs(KnobsBase):
    """Inputs of one run. Durations are seconds of the incident; rates are per second of the incident."""

    pool_size: int = whole(20, 1, 100, "connections", "connections in each pod's pool")
    followers: int = whole(45_312, 10, 1_000_000, "followers", "who follows @techinfluencer")
    fcm_latency_ms: float = number(45, 0, 5_000, "ms", "the push service answers one call in")
    db_latency_ms: float = number(2, 0, 500, "ms", "added to every statement's round trip")
    pool_timeout_s: float = number(30, 0.5, 300, "s", "a request waits this long for a connection, then fails")
    client_timeout_s: float = number(2, 0.5, 300, "s", "the author's phone waits this long for its answer")
    client_retries: bool = switch(True, "after that it sends the post again, until it is answered")
    request_rate: float = number(6, 0, 20, "requests/s", "readers opening feeds and comments")
    open_rate: float = number(0, 0, 1, "share", "pushes whose receiver opens the app at once")
    threads: int = whole(64, 1, 256, "threads", "requests that one pod works on at a time")
    pods: int = whole(1, 1, 4, "pods", "API processes behind the load balancer")
    workers: int = whole(2, 1, 8, "processes", "Celery processes, where the step has them")
    second_devices: float = number(0, 0, 1, "share", "followers who carry two phones")
    posts: int = whole(1, 0, 50, "posts", "how often @techinfluencer presses Post, all at once")
    step: Any = choice(0, [s.number for s in STEPS] + [s.name for s in STEPS], "which version of the code runs")
    restart_at_s: float | None = number(None, 1, 3_600, "s", "when on-call restarts the pods, if at all")
    trace: bool = switch(True, "whether requests are traced")
    speed: float = number(10, 1, 20, "", "incident seconds in one of yours")
    seconds: float = number(95, 5, 600, "s", "how long the run lasts, in incident seconds")
    seed: int = whole(1, 0, 2**31 - 1, "", "seed of the users' arrivals")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "step", step_of(self.step).number)

    def deployed_settings(self) -> dict[str, Any]:
        """Return the settings that take effect only when the pods restart."""
        return {name: value for name, value in self.as_dict().items() if name in DEPLOYED}
