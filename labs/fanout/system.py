"""The system of incident 1 as real processes: API pods, a Celery worker where the step has one, users, a recorder.

Both a scripted run (``experiment.py``) and the live panel (``live.py``) drive it through this one class. Everything
here is the laboratory's side: the application itself is in ``social/`` and the ``step`` modules and knows none of it.
"""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import httpx

from labs import home
from labs.fanout import dataset
from labs.fanout.knobs import Knobs
from labs.fanout.steps import Step, step_of
from labs.fcm import Admin
from labs.kit import control, server_statements
from labs.kit.clock import Clock
from labs.kit.fleet import Fleet, free_port
from labs.kit.recorder import Recorder
from labs.kit.recording import Recording
from labs.kit.rundir import new_run_dir
from labs.stack import Stack, StackError, current
from labs.stack.model import stopped

START_OF_DAY = "15:20:50"  # the post goes out ten incident seconds later, at 15:21:00 as published
READERS = 8
READER_PATIENCE = 60.0  # incident seconds a phone's HTTP client waits by default before it gives up
QUEUE = "fanout"
SERVER_STATEMENTS = "server_statements.json"
FOR_EVER = 3600.0  # wall seconds: longer than any run
READY = 1.0  # wall seconds that a deployed pod has to show that it is ready
NOTICE = 0.12  # wall seconds: the traffic generator looks at its orders twenty times a second
WARM_UP = 60.0  # wall seconds, at most, until a first post has been through every part
JWT_SECRET = "live-postmortems-run-on-loopback-only"
CREATE_PATH = "/api/v1/posts/create"
POST = {"content": "Our new dashboard is live. Tell me what you think."}
PUSH_TOKEN = "ya29.a-service-account-token"

Progress = Callable[[str], None]


class System:
    """A running copy of the outage's system.

    ``knobs``: its settings, in incident units. ``say``: called with a short line as parts come up.
    Use as a context manager: leaving it stops every process it started.
    """

    def __init__(self, stack: Stack, knobs: Knobs, say: Progress | None = None) -> None:
        self.stack = stack
        self.knobs = knobs
        self.say = say or (lambda line: None)
        self.run_dir: Path = new_run_dir(home(), "fanout")
        self.clock = Clock(speed=knobs.speed, of_day=START_OF_DAY)
        self.push = Admin(stack.fcm.url, stack.project)
        self._shots: list[dict] = []
        self._shot_numbers = count(1)
        self._headers: dict[str, list[dict[str, str]]] = {}
        self._ports: list[int] = []
        self.started = False
        self.full_since = 0.0  # wall time of the youngest hold, as of the last look
        self._closed = False
        self.recorder = Recorder(
            self.run_dir,
            postgres_url=stack.postgres.url,
            redis_url=stack.redis.url,
            queues=(QUEUE,),
            fcm=(stack.fcm.url, stack.project),
            speed=knobs.speed,
        )
        self.fleet = Fleet(self.run_dir, self.recorder)

    def __enter__(self) -> "System":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- up and down ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring everything up and let the users in; incident time starts when this returns."""
        self.say("preparing the data")
        dataset.prepare(self.stack, followers=self.knobs.followers, progress=self.say)
        dataset.restore(self.stack)
        self._clear_queue()
        self.push.reset()
        self.push.set(latency_ms=self.knobs.fcm_latency_ms / self.clock.speed)
        self.say("starting the pods")
        self._delay_statements()
        self._find_ports()
        self._start_step()
        self._sign_in()
        self._warm_up()
        self.clock = Clock(self.knobs.speed, time.time(), START_OF_DAY)
        self.recorder.describe("fanout", self.knobs.as_dict(), START_OF_DAY, self.clock.started)
        self._write_traffic_control()
        self.fleet.start("traffic", "labs.kit.traffic", [self._traffic_control])
        server_statements.start(self.stack.postgres.url)
        self.started = True
        self.say("running")

    def finish(self) -> Recording:
        """End the run: let the pods hand over their traces, stop everything, return what was observed."""
        self.recorder.end()
        server_statements.save(self.stack.postgres.url, self.run_dir / SERVER_STATEMENTS)
        self.fleet.stop("traffic", grace=60)
        self.fleet.finish(timeout=60)
        self.close()
        recording = Recording.open(self.run_dir, pods="api-")
        recording.culprit = f"POST {CREATE_PATH}"
        return recording

    def close(self) -> None:
        """Stop every process of this system. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.fleet.close()
        self.recorder.close()
        self.push.close()

    # -- while it runs --------------------------------------------------------------------------------------------

    def post(self, posts: int = 1, at: float | None = None) -> None:
        """Have @techinfluencer press *Post* ``posts`` times at once; the phone behaves as the knobs say.

        ``at``: wall time at which that is due; by default as soon as the traffic generator can know of it.
        """
        due = time.time() + NOTICE if at is None else at
        self.recorder.mark("post" if posts == 1 else f"{posts} posts", due)
        self._shots += [{"id": f"post-{next(self._shot_numbers)}", "at": due} for _ in range(posts)]
        self._write_traffic_control()

    def _as_sent(self, shot: dict) -> dict:
        """Return a press of *Post* as the traffic generator sends it, with the patience the phone has now."""
        retries = self.knobs.client_retries
        return shot | {
            "who": "author",
            "method": "POST",
            "path": CREATE_PATH,
            "endpoint": f"POST {CREATE_PATH}",
            "json": POST,
            "headers": self._headers["author"][0],
            "timeout": self.clock.wall(self.knobs.client_timeout_s) if retries else FOR_EVER,
            "retries": -1 if retries else 0,
            "backoff": 0.0,
        }

    def create_post(self) -> float:
        """Post once and wait for the answer, however long it takes; return the wall seconds it took."""
        self.recorder.mark("post")
        with httpx.Client(base_url=self._base_urls[0], timeout=None, trust_env=False) as client:
            started = time.perf_counter()
            client.post(CREATE_PATH, json=POST, headers=self._headers["author"][0]).raise_for_status()
            return time.perf_counter() - started

    def restart_pods(self) -> None:
        """Kill the API pods and start them again, as an orchestrator would; users go on as before."""
        self.recorder.mark("restart")
        names = self._pod_names()
        self.fleet.kill(*names)
        self._start_pods()

    def change(self, **changes: object) -> None:
        """Move knobs of the running system: what a real one can change in place changes in place.

        Latencies, followers, request rate, client behaviour take effect at once. Pool size, pool time-out, threads,
        pods and step are deployed: the pods restart with the new settings.
        Raises KnobError for a value out of range; nothing has changed then.
        """
        before, self.knobs = self.knobs, self.knobs.replace(**changes)
        after = self.knobs
        if after.followers != before.followers:
            dataset.set_followers(self.stack, after.followers, progress=self.say)
        if after.fcm_latency_ms != before.fcm_latency_ms:
            self.push.set(latency_ms=after.fcm_latency_ms / self.clock.speed)
        if after.db_latency_ms != before.db_latency_ms:
            self._delay_statements()
        if after.deployed_settings() != before.deployed_settings():
            self._deploy(before)
        self._write_traffic_control()

    def _deploy(self, before: Knobs) -> None:
        self.recorder.mark("deploy")
        self.fleet.kill(*(f"api-{n + 1}" for n in range(before.pods)))
        if step_of(before.step).worker:
            self.fleet.kill("worker")
            self._clear_queue()
        self._find_ports()
        self._start_step()
        self._knock()

    def _find_ports(self) -> None:
        """Have one port for each pod, none twice."""
        del self._ports[self.knobs.pods :]
        while len(self._ports) < self.knobs.pods:
            port = free_port()
            if port not in self._ports:
                self._ports.append(port)

    def _knock(self) -> None:
        """Ask each pod that was deployed whether it is ready, as an orchestrator does; one that is busy may be late."""
        with httpx.Client(timeout=READY, trust_env=False) as client:
            for base in self._base_urls:
                self._knock_at(client, base)

    def _knock_at(self, client: httpx.Client, base: str) -> None:
        until = time.monotonic() + WARM_UP
        while time.monotonic() < until:
            try:
                client.get(f"{base}/api/v1/feed", headers=self._headers["reader"][0])
                return
            except httpx.TimeoutException:
                return
            except httpx.HTTPError:  # the last of the old pod may still hold the port for a moment
                time.sleep(0.05)

    def connections_held_by_posts(self) -> int:
        """Return how many connections the route that creates posts holds now, all pods together."""
        pods = self.recorder.live()["pods"]
        taken = [slot for pod in pods for slot in pod["slots"] if slot and slot["by"] == f"POST {CREATE_PATH}"]
        self.full_since = max((slot["since"] for slot in taken), default=time.time())
        return len(taken)

    def start_count(self) -> None:
        """Count notifications from here on."""
        self.push.reset(keep_settings=True)

    def readers_in_flight(self) -> int:
        """Return how many of the readers' requests are due and have no outcome yet."""
        buckets = self.recorder.live()["buckets"]
        return sum(bucket["due"] - bucket["ok"] - bucket["failed"] for bucket in buckets)

    def check(self) -> None:
        """Raise StackError, naming the server and the remedy, if one of the servers has died."""
        servers = current()
        if servers is None:
            raise StackError("The servers have been stopped; run the cell again to start them.")
        for service in servers.services:
            if service.state != "running":
                raise stopped(service.name)

    # -- the processes --------------------------------------------------------------------------------------------

    @property
    def step(self) -> Step:
        return step_of(self.knobs.step)

    def _pod_names(self) -> list[str]:
        return [f"api-{n + 1}" for n in range(len(self._ports))]

    def _start_step(self) -> None:
        if self.step.worker:
            self._start_worker()
        self._start_pods()

    def _start_pods(self) -> None:
        for name, port in zip(self._pod_names(), self._ports, strict=True):
            self.fleet.gunicorn(name, f"{self.step.module}:app", port, self.knobs.threads, self._app_env())
        for name, port in zip(self._pod_names(), self._ports, strict=True):
            self.fleet.wait_for_port("127.0.0.1", port, timeout=60, process=name)

    def _start_worker(self) -> None:
        arguments = ["--queues", QUEUE, "--without-gossip", "--without-mingle", "--without-heartbeat"]
        # The beat sends the periodic task, where the step has one; its schedule file belongs to the run.
        arguments += ["--beat", "--schedule", self.run_dir / "beat"]
        app = f"{self.step.module}:celery_app"
        self.fleet.celery("worker", app, self.knobs.workers, self._app_env(), args=arguments)

    def _app_env(self) -> dict[str, str]:
        """Return what an operator would set in production, at this run's speed."""
        knobs, wall = self.knobs, self.clock.wall
        settings = {
            "DATABASE_URL": self.stack.postgres.url,
            "DB_POOL_SIZE": knobs.pool_size,
            "DB_MAX_OVERFLOW": 0,
            "DB_POOL_TIMEOUT": wall(knobs.pool_timeout_s),
            "JWT_SECRET": JWT_SECRET,
            "FCM_URL": self.stack.fcm.url,
            "FCM_PROJECT": self.stack.project,
            "FCM_ACCESS_TOKEN": PUSH_TOKEN,
            "CELERY_BROKER_URL": self.stack.redis.url,
            "FANOUT_QUEUE": QUEUE,
            "FANOUT_RETRY_DELAY": wall(30),
            "FOLLOWER_COUNTS_REFRESH": wall(300),
            "THROTTLE_SECONDS": wall(60),
        }
        tracing = {} if knobs.trace else {"LABS_TRACE": "off"}
        return {name: str(value) for name, value in settings.items()} | tracing

    # -- the users ------------------------------------------------------------------------------------------------

    @property
    def _base_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    def _sign_in(self) -> None:
        """Log a few readers and the authors in through the API itself, and keep their tokens for the run."""
        with httpx.Client(base_url=self._base_urls[0], timeout=60, trust_env=False) as client:
            readers = [self._token(client, name) for name in dataset.accounts(READERS)]
            author = self._token(client, dataset.INFLUENCER)
            self._headers = {
                "reader": readers,
                "author": [author],
                "everyday author": [self._token(client, dataset.everyday_author())],
            }

    def _token(self, client: httpx.Client, username: str) -> dict[str, str]:
        answer = client.post("/api/v1/auth/login", json={"username": username, "password": dataset.PASSWORD})
        answer.raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def _warm_up(self) -> None:
        """Send each pod one of the day's other posts, so that no run measures a first connection or import.

        Where a worker sends the notifications, wait until it has: it is ready then.
        """
        with httpx.Client(timeout=60, trust_env=False) as client:
            for base in self._base_urls:
                for _ in range(2):
                    client.get(f"{base}/api/v1/feed", headers=self._headers["reader"][0]).raise_for_status()
                answer = client.post(base + CREATE_PATH, json=POST, headers=self._headers["everyday author"][0])
                answer.raise_for_status()
        expected = dataset.EVERYDAY_FOLLOWERS * len(self._ports)
        until = time.monotonic() + WARM_UP
        while self.push.counters()["accepted"] < expected:
            if time.monotonic() > until:
                raise StackError(f"The notifications of a first post did not arrive; see {self.run_dir}/logs.")
            time.sleep(0.02)
        self.start_count()

    def _reading(self) -> list[dict]:
        """Return what a reader's phone asks for: the feed mostly, comments sometimes."""
        posts = [f"/api/v1/posts/{post}/comments" for post in dataset.some_posts(self.stack)]
        return [
            {"method": "GET", "paths": ["/api/v1/feed"], "weight": 8, "endpoint": "GET /api/v1/feed"},
            {"method": "GET", "paths": posts, "weight": 2, "endpoint": "GET /api/v1/posts/<id>/comments"},
        ]

    def _write_traffic_control(self) -> None:
        wall, knobs, requests = self.clock.wall, self.knobs, self._reading()
        reading = {"headers": self._headers["reader"], "timeout": wall(READER_PATIENCE), "requests": requests}
        control.write(
            self._traffic_control,
            {
                "targets": self._base_urls,
                "names": self._pod_names(),
                "seed": knobs.seed,
                "streams": {
                    "reader": reading | {"rate": knobs.request_rate * knobs.speed, "retries": 0, "backoff": 0.0}
                },
                "shots": [self._as_sent(shot) for shot in self._shots],
                "openers": {
                    "fcm": self.stack.fcm.url,
                    "project": self.stack.project,
                    "rate": knobs.open_rate,
                    "headers": self._headers["reader"],
                    "timeout": wall(READER_PATIENCE),
                    "request": requests[0],
                },
            },
        )

    # -- control files --------------------------------------------------------------------------------------------

    @property
    def _traffic_control(self) -> Path:
        return self.run_dir / "traffic.json"

    def _delay_statements(self) -> None:
        self.fleet.tell_probes(db_latency=self.clock.wall(self.knobs.db_latency_ms / 1000))

    def _clear_queue(self) -> None:
        import redis

        with redis.Redis.from_url(self.stack.redis.url) as client:
            client.flushdb()
