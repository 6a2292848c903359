"""``python3 -m labs``: the workbook's command line.

This file and what it imports until the virtual environment exists use the standard library only; the first lines run
on any Python 3, so that an old one gets a sentence instead of a syntax error.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this line is for whoever runs it with an old one
    sys.exit(
        "Live Postmortems needs Python 3.11 or newer and this is {}.{}; install a newer one "
        "and run it by its name, such as `python3.12 -m labs start`.".format(*sys.version_info[:2])
    )

from labs.cli.entry import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
