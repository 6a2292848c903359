"""The system of incident 1 as real processes: API pods, a Celery worker where the step has one, users, a recorder.

Both a scripted run (``experiment.py``) and the live panel (``live.py``) drive it through this one class. Everything
here is the laboratory's side: the application itself is in ``social/`` and the ``step`` modules and knows none of it.
"""

import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import httpx
import psycopg
import redis

from labs import home
from labs.fanout import dataset
from labs.fanout.knobs import Knobs
from labs.fanout.steps import Step, step_of
from labs.fcm import Admin
from labs.kit import control, server_statements
from labs.kit.clock import Clock
from labs.kit.fleet import Fleet, free_port
from labs.kit.gate import Gate
from labs.kit.recorder import Recorder
from labs.kit.recording import Recording
from labs.kit.rundir import new_run_dir
from labs.kit.samplers import APPLICATION_NAME, libpq_url
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
PUBLISHED_QUOTA = 600_000  # messages a minute that FCM allows a project
# A pause of the machine is not an outage of the incident: time-outs that only guard against what has died are never
# compressed below these wall seconds.
CHUNK_TIMEOUT, VISIBILITY_TIMEOUT, FCM_TIMEOUT = 3.0, 6.0, 10.0
POST = {"content": "Our new dashboard is live. Tell me what you think."}
PUSH_TOKEN = "ya29.a-service-account-token"

Progress = Callable[[str], None]


class System:
    """A running copy of the outage's system.

    ``knobs``: its settings, in incident units. ``say``: called with a short line as parts come up. ``env``: settings of
    pods and worker beside or instead of the usual ones. ``module``: the program that runs instead of the step's, by its
    import path. ``gates``: pods and worker reach PostgreSQL and Redis through gates that can be shut.
    Use as a context manager: leaving it stops every process it started.
    """

    def __init__(
        self,
        stack: Stack,
        knobs: Knobs,
        say: Progress | None = None,
        *,
        env: Mapping[str, object] | None = None,
        module: str | None = None,
        gates: bool = False,
    ) -> None:
        self.stack = stack
        self.knobs = knobs
        self.say = say or (lambda line: None)
        self.gates: dict[str, Gate] = {}
        self._gated = gates
        self._env = dict(env or {})
        self._module = module
        self.run_dir: Path = new_run_dir(home(), "fanout")
        self.clock = Clock(speed=knobs.speed, of_day=START_OF_DAY)
        self.push = Admin(stack.fcm.url, stack.project)
        self._shots: list[dict] = []
        self._shot_numbers = count(1)
        self._headers: dict[str, list[dict[str, str]]] = {}
        self._ports: list[int] = []
        self._database: psycopg.Connection | None = None
        self.fanouts = self.left_over = 0  # as the run ended: notifications begun, and what was still to be sent
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
        knobs = self.knobs
        dataset.prepare(self.stack, knobs.followers, self.say, second_devices=knobs.second_devices)
        dataset.restore(self.stack)
        self._clear_queue()
        self.push.reset()
        self.push.set(
            latency_ms=knobs.fcm_latency_ms / self.clock.speed, quota_per_minute=PUBLISHED_QUOTA * self.clock.speed
        )
        self.say("starting the pods")
        self._build_gates()
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
        self.fanouts, self.left_over = self.fanouts_begun(), self.unsent()
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
        if self._database is not None:
            self._database.close()
        self.fleet.close()
        self.recorder.close()
        self.push.close()

    # -- while it runs --------------------------------------------------------------------------------------------

    def post(self, posts: int = 1, at: float | None = None, author: str = dataset.INFLUENCER) -> None:
        """Have ``author`` press *Post* ``posts`` times at once; the phone behaves as the knobs say.

        ``at``: wall time at which that is due; by default as soon as the traffic generator can know of it.
        """
        due = time.time() + NOTICE if at is None else at
        headers = self._headers_of(author)
        self.recorder.mark("post" if posts == 1 else f"{posts} posts", due)
        shots = [{"id": f"post-{next(self._shot_numbers)}", "at": due, "headers": headers} for _ in range(posts)]
        self._shots += shots
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
            "timeout": self.clock.wall(self.knobs.client_timeout_s) if retries else FOR_EVER,
            "retries": -1 if retries else 0,
            "backoff": 0.0,
        }

    def create_post(self, author: str = dataset.INFLUENCER) -> float:
        """Post once as ``author`` and wait for the answer, however long it takes; return the wall seconds it took."""
        headers = self._headers_of(author)
        self.recorder.mark("post")
        with httpx.Client(base_url=self._base_urls[0], timeout=None, trust_env=False) as client:
            started = time.perf_counter()
            client.post(CREATE_PATH, json=POST, headers=headers).raise_for_status()
            return time.perf_counter() - started

    def restart_pods(self) -> None:
        """Kill the API pods and start them again, as an orchestrator would; users go on as before."""
        self.recorder.mark("restart")
        self.kill_pods()
        self.start_pods()

    def kill_pods(self) -> None:
        """Kill the API pods as `kill -9` does."""
        self.fleet.kill(*self._pod_names())

    def kill_worker(self) -> None:
        """Kill the Celery worker with all its processes as `kill -9` does."""
        self.fleet.kill("worker")

    def change(self, **changes: object) -> None:
        """Move knobs of the running system: what a real one can change in place changes in place.

        Latencies, followers, request rate, client behaviour take effect at once. Pool size, pool time-out, threads,
        pods and step are deployed: the pods restart with the new settings.
        Raises KnobError for a value out of range; nothing has changed then.
        """
        before, self.knobs = self.knobs, self.knobs.replace(**changes)
        after = self.knobs
        if after.second_devices != before.second_devices:
            dataset.prepare(self.stack, after.followers, self.say, second_devices=after.second_devices)
        if after.followers != before.followers:
            dataset.set_followers(self.stack, after.followers, progress=self.say)
        if after.fcm_latency_ms != before.fcm_latency_ms:
            self.push.set(latency_ms=after.fcm_latency_ms / self.clock.speed)
        if after.db_latency_ms != before.db_latency_ms:
            self._delay_statements()
        if after.deployed_settings() != before.deployed_settings():
            self._deploy(before)
        self._write_traffic_control()

    def deploy(self, *, module: str | None = None, **env: object) -> None:
        """Deploy the step that runs once more, with ``env`` beside or instead of the settings it had.

        ``module``: the program that runs from now on, by its import path; the one that ran by default.
        """
        self._env |= env
        self._module = module or self._module
        self._deploy(self.knobs)

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

    def unsent(self) -> int:
        """Return what the database knows is still to be done: posts in the outbox, and chunks not finished."""
        return self._ask(
            "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM deliveries WHERE state <> 'finished')"
        )

    def fanouts_begun(self) -> int:
        """Return how many notifications of @techinfluencer's posts have been begun; several posts may share one."""
        return self._ask(f"SELECT count(*) FROM fanouts WHERE author_id = {dataset.INFLUENCER_ID}")

    def _ask(self, question: str) -> int:
        if not self.step.outbox:
            return 0
        if self._database is None:
            self._database = psycopg.connect(
                libpq_url(self.stack.postgres.url), autocommit=True, application_name=APPLICATION_NAME
            )
        return self._database.execute(question).fetchone()[0]

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

    @property
    def module(self) -> str:
        """Import path of the program that runs."""
        return self._module or self.step.module

    def _pod_names(self) -> list[str]:
        return [f"api-{n + 1}" for n in range(len(self._ports))]

    def _start_step(self) -> None:
        if self.step.worker:
            self.start_worker()
        self.start_pods()

    def start_pods(self) -> None:
        """Start the API pods and wait until they listen."""
        for name, port in zip(self._pod_names(), self._ports, strict=True):
            self.fleet.gunicorn(name, f"{self.module}:app", port, self.knobs.threads, self._app_env())
        for name, port in zip(self._pod_names(), self._ports, strict=True):
            self.fleet.wait_for_port("127.0.0.1", port, timeout=60, process=name)

    def start_worker(self) -> None:
        """Start the Celery worker; it is ready a little later."""
        arguments = ["--queues", QUEUE, "--without-gossip", "--without-mingle", "--without-heartbeat"]
        # The beat sends the periodic task, where the step has one; its schedule file belongs to the run.
        arguments += ["--beat", "--schedule", self.run_dir / "beat"]
        app = f"{self.module}:celery_app"
        self.fleet.celery("worker", app, self.knobs.workers, self._app_env(), args=arguments)

    def _app_env(self) -> dict[str, str]:
        """Return what an operator would set in production, at this run's speed."""
        knobs, wall = self.knobs, self.clock.wall
        settings = {
            "DATABASE_URL": self._url("postgres"),
            "DB_POOL_SIZE": knobs.pool_size,
            "DB_MAX_OVERFLOW": 0,
            "DB_POOL_TIMEOUT": wall(knobs.pool_timeout_s),
            "JWT_SECRET": JWT_SECRET,
            "FCM_URL": self.stack.fcm.url,
            "FCM_PROJECT": self.stack.project,
            "FCM_ACCESS_TOKEN": PUSH_TOKEN,
            "FCM_TIMEOUT": FCM_TIMEOUT,
            "CELERY_BROKER_URL": self._url("redis"),
            "FANOUT_QUEUE": QUEUE,
            "FANOUT_RETRY_DELAY": wall(30),
            "FOLLOWER_COUNTS_REFRESH": wall(300),
            "THROTTLE_SECONDS": wall(60),
        }
        tracing = {} if knobs.trace else {"LABS_TRACE": "off"}
        return {name: str(value) for name, value in (settings | self._outbox_env() | self._env).items()} | tracing

    def _outbox_env(self) -> dict[str, object]:
        """Return the settings that only the steps with an outbox read."""
        wall = self.clock.wall
        return {
            "RELAY_INTERVAL": wall(1),
            "CHUNK_TIMEOUT": max(CHUNK_TIMEOUT, wall(30)),
            "VISIBILITY_TIMEOUT": max(VISIBILITY_TIMEOUT, wall(60)),
            "PUSH_BACKOFF": wall(10),
            "PUSH_BACKOFF_MAX": wall(600),
            "FCM_QUOTA_WAIT": wall(60),
            "FCM_RAMP_UP": wall(60),
            "FCM_QUOTA_PER_MINUTE": PUBLISHED_QUOTA * self.clock.speed,
        }

    def _build_gates(self) -> None:
        if self._gated and not self.gates:
            servers = {"postgres": self.stack.postgres.url, "redis": self.stack.redis.url}
            self.gates = {name: Gate(self.fleet, f"gate-{name}", url) for name, url in servers.items()}

    def _url(self, server: str) -> str:
        """Return where pods and worker reach a server: at its gate, where there is one."""
        return self.gates[server].url if server in self.gates else getattr(self.stack, server).url

    # -- the users ------------------------------------------------------------------------------------------------

    @property
    def _base_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    def _sign_in(self) -> None:
        """Log a few readers and the authors in through the API itself, and keep their tokens for the run."""
        with httpx.Client(base_url=self._base_urls[0], timeout=60, trust_env=False) as client:
            readers = [self._token(client, name) for name in dataset.accounts(READERS)]
            self._headers = {"reader": readers} | {
                name: [self._token(client, name)] for name in (dataset.INFLUENCER, dataset.everyday_author())
            }

    def _headers_of(self, author: str) -> dict[str, str]:
        """Return the headers that sign an author in; the first time, log in."""
        if author not in self._headers:
            with httpx.Client(base_url=self._base_urls[0], timeout=60, trust_env=False) as client:
                self._headers[author] = [self._token(client, author)]
        return self._headers[author][0]

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
                answer = client.post(base + CREATE_PATH, json=POST, headers=self._headers_of(dataset.everyday_author()))
                answer.raise_for_status()
        expected = dataset.EVERYDAY_FOLLOWERS * len(self._ports)
        until = time.monotonic() + WARM_UP
        while self.push.counters()["accepted"] < expected:
            if time.monotonic() > until:
                raise StackError(f"The notifications of a first post did not arrive; see {self.run_dir}/logs.")
            time.sleep(0.02)
        self._until_nothing_is_unsent(until)
        self._rest_the_quota()
        self.start_count()

    def _until_nothing_is_unsent(self, until: float) -> None:
        while self.unsent() and time.monotonic() < until:
            time.sleep(0.02)

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
        with self._redis() as client:
            client.flushdb()

    def _rest_the_quota(self) -> None:
        """Let the next post start from rest, as one that comes after a quiet minute does."""
        with self._redis() as client:
            client.delete("push:bucket")

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.redis.url)
