"""The browser's side of the widgets: plain files, joined here, so that there is no build step."""

from pathlib import Path

FOLDER = Path(__file__).parent


def script(*names: str, folder: Path = FOLDER) -> str:
    """Return one ES module made of the files ``names``; the last of them exports the widget."""
    return "\n".join(where(name, folder).read_text(encoding="utf-8") for name in names)


def style(*names: str, folder: Path = FOLDER) -> str:
    """Return one style sheet made of the files ``names``."""
    return "\n".join(where(name, folder).read_text(encoding="utf-8") for name in names)


def beside(module: str) -> Path:
    """Return the folder of a module, given its ``__file__``."""
    return Path(module).parent


def where(name: str, folder: Path) -> Path:
    """Return the path of an asset: in the widget's own ``folder``, or among the shared ones beside this file."""
    own = folder / name
    return own if own.exists() else FOLDER / name
