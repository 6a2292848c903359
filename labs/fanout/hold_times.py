"""How long one post holds its connection, against the number of followers: a straight line, measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labs.fanout.experiment import quiet_system
from labs.fanout.outcome import CREATE
from labs.kit import charts
from labs.kit.table import Table, count, seconds

FOLLOWERS = (12, 50, 100, 200, 400)


@dataclass(frozen=True)
class Sweep:
    """One post for each number of followers. ``held`` and ``answered`` are incident seconds; all shape (n,)."""

    followers: np.ndarray
    held: np.ndarray
    answered: np.ndarray

    @property
    def slope(self) -> float:
        """Incident seconds for which each further follower keeps the connection: least squares."""
        return float(np.polyfit(self.followers, self.held, 1)[0])

    @property
    def straightness(self) -> float:
        """How much of the variation the straight line explains, R squared, 0 to 1."""
        return float(np.corrcoef(self.followers, self.held)[0, 1] ** 2)

    @property
    def per_follower(self) -> str:
        """The slope, in words."""
        return seconds(self.slope)

    def held_at(self, followers: int) -> str:
        """Return the hold time that the straight line gives for ``followers``, in words."""
        slope, offset = np.polyfit(self.followers, self.held, 1)
        return seconds(float(slope * followers + offset))

    def table(self) -> Table:
        """Return the measurements."""
        rows = [
            (count(followers), seconds(held), seconds(answered))
            for followers, held, answered in zip(self.followers, self.held, self.answered, strict=True)
        ]
        return Table(("followers", "connection held", "author waits"), rows)

    def chart(self) -> charts.Chart:
        """Draw the hold time against the followers."""
        return charts.line_chart(
            self.followers.tolist(),
            {"measured": self.held.tolist(), "straight line": (self.slope * self.followers + self._offset).tolist()},
            title=f"Each follower keeps the connection for another {self.per_follower}",
            x_label="followers",
            y_label="connection held, s of the incident",
        )

    @property
    def _offset(self) -> float:
        return float(np.polyfit(self.followers, self.held, 1)[1])


def sweep(followers: Sequence[int] = FOLLOWERS, step: int | str = 0, speed: float = 10) -> Sweep:
    """Post once for each number of ``followers``, with nobody else about, and measure.

    Raises KnobError for a number of followers that the lab does not allow.
    """
    if len(followers) < 2:
        raise ValueError(f"followers must name two numbers or more, to draw a line through; got {len(followers)}.")
    with quiet_system(step=step, speed=speed, followers=followers[0], client_retries=False) as system:
        waited = []
        for number in followers:
            system.change(followers=number)
            waited.append(system.clock.incident(system.create_post()))
        recording = system.finish()
    held = recording.holds.where(by=CREATE)
    # A post holds a connection once to insert itself and once for the loop: the longer one is the loop.
    ends = _ends_of_posts(recording)
    longest = [held.held[(held.at >= start) & (held.at < end)].max(initial=0.0) for start, end in ends]
    return Sweep(np.array(followers), np.array(longest), np.array(waited))


def _ends_of_posts(recording) -> list[tuple[float, float]]:
    """Return (start, end) of each post, from the marks that the system set around them; incident seconds."""
    times = [at for at, label in recording.marks if label == "post"]
    return list(zip(times, [*times[1:], np.inf], strict=True))
