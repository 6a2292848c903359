"""Six things that happen in production, brought about in the middle of one fan-out, and two more of the same kind.

Each is a function of a ``Scene``: it has the post made, does the damage, and puts the servers right again. What the
system makes of that is not its business.
"""

from collections.abc import Callable
from dataclasses import dataclass

from labs.fanout.crash_scene import CHUNK_SIZE, POST_CREATE, Scene
from labs.fanout.steps import hint

AWAY = 1.0  # wall seconds for which a server is away
HELD = 0.5  # wall seconds for which FCM keeps its answers back, so that a fan-out is caught in its middle


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. ``happens``: brings it about, from the post to where nothing is broken any more."""

    name: str
    happens: Callable[[Scene], None]


def api_killed(scene: Scene) -> None:
    """`kill -9` the API pod when it has committed the post and before it does anything else, and start it again."""
    system = scene.system
    system.fleet.tell_probes(halt={"after": "commit", "by": POST_CREATE})
    system.post()
    scene.until(lambda: len(system.recorder.live()["halted"]) > scene.halts_seen, "the API commits the post")
    system.kill_pods()
    system.fleet.tell_probes(halt=None)
    system.start_pods()


def worker_restarted(scene: Scene) -> None:
    """Ask the worker to stop (SIGTERM) when FCM has accepted some notifications; start a new one when it has.

    That is a deployment: Celery's warm shutdown finishes the task that is running, and takes no other.
    """
    _begin(scene)
    scene.stop_worker()
    scene.release()
    scene.until_worker_stopped()
    scene.system.start_worker()


def worker_killed(scene: Scene) -> None:
    """`kill -9` the worker, parent and children, when FCM has accepted some notifications; start a new one."""
    _begin(scene)
    scene.system.kill_worker()
    scene.release()
    scene.system.start_worker()


def batch_fails(scene: Scene) -> None:
    """Have FCM answer one batch in the middle with 503, once.

    Where the step sends one message a request, FCM answers 503 until it has refused a batch's worth.
    """
    if scene.system.step.name == "today":
        scene.push.set(error_rates={"UNAVAILABLE": 1.0})
        scene.post()
        scene.until(lambda: scene.push.counters()["rejected"] >= CHUNK_SIZE, "FCM has refused a batch's worth")
        scene.push.set(error_rates={})
    else:
        batches = -(-scene.system.knobs.followers // CHUNK_SIZE)
        scene.push.set(fail_batches=[batches // 2 + 1])
        scene.post()


def redis_away(scene: Scene) -> None:
    """Have nobody reach Redis for some seconds while the fan-out is under way."""
    _begin(scene)
    with scene.system.gates["redis"].kept_shut():
        _while_away(scene)


def redis_away_at_the_post(scene: Scene) -> None:
    """Have nobody reach Redis from before the post arrives until it has been answered, and some seconds more."""
    with scene.system.gates["redis"].kept_shut():
        scene.post()
        _while_away(scene)


def redis_empty(scene: Scene) -> None:
    """Start Redis anew with nothing in it while the post's task waits in the queue, for a worker that is deployed.

    Redis as many run it, without persistence, forgets the queue; so does one whose machine is lost.
    """
    scene.system.kill_worker()
    scene.post()
    with scene.system.gates["redis"].kept_shut():
        scene.empty_redis()
    scene.system.start_worker()


def postgres_restarts(scene: Scene) -> None:
    """Restart PostgreSQL while the fan-out is under way, as its clients see that.

    All sessions of the system end with "terminating connection due to administrator command", as in a fast restart,
    and for some seconds no new connection is accepted. That is all a client can tell of a restart, and it leaves alone
    whoever else uses a shared server.
    """
    _begin(scene)
    scene.terminate_backends()
    with scene.system.gates["postgres"].kept_shut():
        _while_away(scene)


def _begin(scene: Scene) -> None:
    """Post, and see the fan-out begin; FCM keeps its answers back, so that it cannot be over."""
    scene.brake(HELD)
    scene.post()
    scene.until_some_accepted()


def _while_away(scene: Scene) -> None:
    scene.release()
    scene.pause(AWAY)


FAULTS = (
    Fault("API killed between commit and enqueue", api_killed),
    Fault("worker restarted in mid fan-out", worker_restarted),
    Fault("worker killed in mid fan-out", worker_killed),
    Fault("one batch fails once", batch_fails),
    Fault("Redis away when the post arrives", redis_away_at_the_post),
    Fault("Redis away in mid fan-out", redis_away),
    Fault("Redis comes back empty", redis_empty),
    Fault("PostgreSQL restarts in mid fan-out", postgres_restarts),
)


def fault_of(name: str) -> Fault:
    """Return the fault with this name. Raises ValueError with the list of faults when there is none."""
    for fault in FAULTS:
        if fault.name == name:
            return fault
    names = [fault.name for fault in FAULTS]
    raise ValueError(f"fault must be one of {'; '.join(names)}; not {name!r}.{hint(name, names)}")
