"""Incident time and wall time.

An outage that took minutes is replayed in seconds: ``speed=10`` divides every duration of the incident by ten. All
conversions go through a Clock, so no other module multiplies by a speed on its own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Clock:
    """Converts between the incident's time and this machine's.

    ``speed``: incident seconds a wall second, 1 or more. ``started``: wall time (seconds since the epoch) at which
    the incident's time is 0. ``of_day``: what a clock on the wall showed then, "15:20:50".
    """

    speed: float = 1.0
    started: float = 0.0
    of_day: str = "00:00:00"

    def wall(self, incident_seconds: float) -> float:
        """Return how many wall seconds ``incident_seconds`` of the outage take here."""
        return incident_seconds / self.speed

    def incident(self, wall_seconds: float) -> float:
        """Return how many seconds of the outage pass in ``wall_seconds`` here."""
        return wall_seconds * self.speed

    def since_start(self, at: float) -> float:
        """Return the incident seconds since the start at wall time ``at`` (seconds since the epoch)."""
        return (at - self.started) * self.speed

    def epoch(self, incident_seconds: float) -> float:
        """Return the wall time (seconds since the epoch) at ``incident_seconds`` after the start."""
        return self.started + incident_seconds / self.speed

    def label(self, incident_seconds: float) -> str:
        """Return the time of day in the incident, "15:21:10", ``incident_seconds`` after the start."""
        moment = datetime.strptime(self.of_day, "%H:%M:%S") + timedelta(seconds=round(incident_seconds))
        return moment.strftime("%H:%M:%S")
