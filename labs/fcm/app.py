"""The routes of the mock: FCM's own addresses, the retired batch endpoint and the admin interface."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from labs import __version__
from labs.fcm import answers, batch
from labs.fcm.answers import Answer
from labs.fcm.project import Project
from labs.fcm.settings import SettingError

_SEND = re.compile(r"/v1/projects/([^/]+)/messages:send")
_TOPIC_SUBSCRIPTION = re.compile(r"/v1/projects/([^/]+)/registrations/([^/]+)/topicSubscriptions(?:/([^/]+))?")
_ADMIN_PROJECT = re.compile(r"/admin/projects/([^/]+)(?:/(settings|reset|tokens))?")


class App:
    """The application. All its state is here, so it must run in one process, on one event loop."""

    def __init__(self) -> None:
        self._projects: dict[str, Project] = {}
        self._senders: dict[str, Project] = {}  # the same projects by the path of their send endpoint

    def project(self, name: str) -> Project:
        """Return the state of a project, made on first use."""
        found = self._projects.get(name)
        if found is None:
            found = self._projects[name] = Project(name)
        return found

    def respond(self, request: Any, body: bytes) -> tuple[Answer, float]:
        """Answer one request; also return how long after its arrival the answer is to be given, in seconds.

        ``request`` has method, path, query_string and headers (a mapping with lower-case names). All is settled now:
        a changed setting reaches the requests that arrive after it.
        """
        path = request.path
        sender = self._senders.get(path) or self._find_sender(path)
        if sender is not None and request.method == "POST":
            return sender.send(body, request.headers.get("authorization")), sender.latency()
        return self._other(request, path, body)

    def _find_sender(self, path: str) -> Project | None:
        found = _SEND.fullmatch(unquote(path))
        if not found:
            return None
        self._senders[path] = self.project(found[1])
        return self._senders[path]

    def _other(self, scope: Any, path: str, body: bytes) -> tuple[Answer, float]:
        """Answer everything but a send; return the answer and the latency it is to have, in seconds."""
        if path.startswith("/admin/"):
            return self._admin(scope, path, body), 0.0
        if path == "/batch" and scope.method == "POST":
            return self._batch(scope, body)
        subscription = _TOPIC_SUBSCRIPTION.fullmatch(path)
        if subscription:
            return self._topic_subscription(scope, *map(unquote, subscription.groups(default="")))
        return answers.not_found(path), 0.0

    # -- batches ----------------------------------------------------------------------------------------------------

    def _batch(self, scope: Any, body: bytes) -> tuple[Answer, float]:
        content_type = scope.headers.get("content-type") or ""
        try:
            if content_type.lower().startswith("multipart/mixed"):
                return self._multipart_batch(scope, batch.read_parts(body, batch.boundary_of(content_type)))
            return self._json_batch(scope, body)
        except batch.NotABatch as why:
            return batch.refused(why), 0.0

    def _multipart_batch(self, scope: Any, parts: list[batch.Part]) -> tuple[Answer, float]:
        named = next((part.project for part in parts if part.project), None)
        project = self.project(named) if named else self._project_of_batch(scope)
        latency = project.latency()
        ended = project.begin_batch()
        if ended:
            return ended, latency
        outer = scope.headers.get("authorization")
        answered = [(part.content_id, self._answer_part(part, outer)) for part in parts]
        return batch.write_parts(answered), latency

    def _answer_part(self, part: batch.Part, authorization: str | None) -> Answer:
        if part.project is None:
            return answers.status(404, "NOT_FOUND", "Not Found", [], "NOT_FOUND")
        return self.project(part.project).deliver(part.body, part.authorization or authorization)

    def _json_batch(self, scope: Any, body: bytes) -> tuple[Answer, float]:
        project = self._project_of_batch(scope)
        latency = project.latency()
        ended = project.begin_batch() or project.refuse_credentials(scope.headers.get("authorization"))
        if ended:
            return ended, latency
        try:
            listed = batch.read_messages(body)
        except batch.NotABatch as why:
            return batch.refused(why), latency
        return batch.write_json([project.deliver_message(message) for message in listed]), latency

    def _project_of_batch(self, scope: Any) -> Project:
        """Return the project of a batch whose messages do not name one.

        In this order: ``?project=``, Google's header X-Goog-User-Project, and, as an access token belongs to one
        project, the only project this server knows.
        """
        named = _query(scope).get("project") or scope.headers.get("x-goog-user-project")
        if named:
            return self.project(named)
        if len(self._projects) == 1:
            return next(iter(self._projects.values()))
        raise batch.NotABatch(
            f"This server serves {len(self._projects)} projects and the batch names none: "
            "name it with the header X-Goog-User-Project or with ?project= in the address."
        )

    # -- topics -----------------------------------------------------------------------------------------------------

    def _topic_subscription(self, scope: Any, name: str, token: str, topic: str) -> tuple[Answer, float]:
        project = self.project(name)
        latency = project.latency()
        refused = project.refuse_credentials(scope.headers.get("authorization"))
        if refused:
            return refused, latency
        query = _query(scope)
        if scope.method == "POST" and not topic and query.get("topic_name"):
            return project.subscribe(query["topic_name"], token), latency
        if scope.method == "DELETE" and topic:
            return project.unsubscribe(topic, token, query.get("allow_missing") == "true"), latency
        return answers.not_found(scope.path), latency

    # -- admin ------------------------------------------------------------------------------------------------------

    def _admin(self, scope: Any, path: str, body: bytes) -> Answer:
        if path == "/admin/health":
            return _json(200, {"status": "ok", "version": __version__})
        found = _ADMIN_PROJECT.fullmatch(path)
        if not found:
            return _json(404, {"error": f"{path}: there is no such admin address."})
        action = self._admin_actions().get((scope.method, found[2]))
        if action is None:
            return _json(405, {"error": f"{scope.method} {path}: the method does not fit this address."})
        try:
            return _json(200, action(self.project(unquote(found[1])), _query(scope), body))
        except ValueError as error:
            return _json(400, {"error": str(error)})

    def _admin_actions(self) -> dict[tuple[str, str | None], Callable[[Project, dict[str, str], bytes], Any]]:
        return {
            ("GET", None): lambda project, query, body: project.state(),
            ("PATCH", "settings"): _change_settings,
            ("POST", "reset"): _reset,
            ("GET", "tokens"): _list_tokens,
        }


def _change_settings(project: Project, _: dict[str, str], body: bytes) -> dict[str, Any]:
    try:
        changes = json.loads(body)
    except (ValueError, RecursionError):
        raise SettingError("settings: the body is not JSON, but a JSON object of settings is expected.") from None
    project.change(changes)
    return project.state()


def _reset(project: Project, query: dict[str, str], _: bytes) -> dict[str, Any]:
    keep = query.get("keep", "")
    if keep not in ("", "settings"):
        raise SettingError(f"keep: got {keep!r}, but it must be 'settings' or left out.")
    project.reset(keep_settings=keep == "settings")
    return project.state()


def _list_tokens(project: Project, query: dict[str, str], _: bytes) -> list[dict[str, Any]]:
    return project.tokens(_whole(query, "min", 1), _whole(query, "limit", 100))


def _whole(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise SettingError(f"{name}: got {text!r}, but it must be a whole number from 0 up.")
    return int(text)


def _query(scope: Any) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(scope.query_string).items()}


def _json(status: int, value: Any) -> Answer:
    return Answer(status, answers.JSON_HEADERS, json.dumps(value).encode())
