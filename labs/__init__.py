"""Live Postmortems: outages of notification systems, running on your own machine.

The package behind the notebooks. Dependencies point one way: notebooks -> incident -> kit -> stack.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

PROJECT = Path(__file__).resolve().parent.parent


def home() -> Path:
    """Return this workbook's own data folder: ``$LABS_HOME``, else ``.labs`` beside the package.

    Servers, runs and logs live in it. Two workbooks with two homes share nothing.
    """
    return Path(os.environ.get("LABS_HOME") or PROJECT / ".labs").resolve()
