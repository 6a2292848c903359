"""The client of the mock's admin interface."""

import ssl
from pathlib import Path
from typing import Any

import httpx

from labs.fcm.settings import SettingError, Settings


class Admin:
    """One project on one mock FCM server, seen through its admin interface.

    ``url`` is the server's, such as ``http://127.0.0.1:9099``; ``project`` the project id; ``timeout`` in seconds;
    ``certificate`` the PEM file to trust when the server speaks TLS. Usable as a context manager.
    """

    def __init__(self, url: str, project: str, timeout: float = 5.0, certificate: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self.project = project
        trusted = ssl.create_default_context(cafile=str(certificate)) if certificate else True
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=False, verify=trusted)

    def state(self) -> dict[str, Any]:
        """Return ``{"settings": {...}, "counters": {...}}``."""
        return self._call("GET", "")

    def counters(self) -> dict[str, Any]:
        """Return the counters: accepted, devices, duplicates, rejected, rejected_by, requests, batches, ..."""
        return self.state()["counters"]

    def set(self, **settings: Any) -> dict[str, Any]:
        """Change settings for requests that arrive from now on; return the state. Raises SettingError when refused."""
        Settings().changed(settings)  # JSON has no word for NaN: refused here, it gets the same sentence as the rest
        return self._call("PATCH", "/settings", json=settings)

    def reset(self, keep_settings: bool = False) -> dict[str, Any]:
        """Set the counters to zero and, unless ``keep_settings``, the settings to their defaults; return the state."""
        return self._call("POST", "/reset", params={"keep": "settings"} if keep_settings else None)

    def tokens(self, least: int = 1, limit: int = 100) -> list[dict[str, Any]]:
        """Return ``[{"token", "accepted", "rejected"}]`` of devices sent to at least ``least`` times, most first."""
        return self._call("GET", "/tokens", params={"min": least, "limit": limit})

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    def __enter__(self) -> "Admin":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, rest: str, **options: Any) -> Any:
        answer = self._http.request(method, f"/admin/projects/{self.project}{rest}", **options)
        if answer.status_code == 400:
            raise SettingError(answer.json()["error"])
        answer.raise_for_status()
        return answer.json()
