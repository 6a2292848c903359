"""The panel: controls and a drawing on a live system.

The panel knows no incident. An incident's driver says which controls there are, carries a change to the running
system and tells what to draw now; the panel does the rest.
"""

from labs.kit.panel.controls import Action, Choice, Control, ControlError, Option, Slider
from labs.kit.panel.driver import Driver, Snapshot
from labs.kit.panel.panel import Panel
from labs.kit.panel.picture import Picture

__all__ = [
    "Action",
    "Choice",
    "Control",
    "ControlError",
    "Driver",
    "Option",
    "Panel",
    "Picture",
    "Slider",
    "Snapshot",
]
