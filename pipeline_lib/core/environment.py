"""Whether this Python can run the project at all. Imports nothing that an old or bare Python lacks."""

import sys

OLDEST, TOO_NEW = (3, 11), (3, 14)
CURE = (
    "Run `make setup` once in the project's folder, then `source .venv/bin/activate` in every new terminal, "
    "and give the same command again."
)


def wrong_python():
    """A message where the project does not run on this Python; None where it does."""
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return None
    found = ".".join(map(str, sys.version_info[:2]))
    return f"expected Python 3.11, 3.12 or 3.13, found {found} ({sys.executable}). {CURE}"


def missing_package(error):
    """A message for an `ImportError` of a package that the project needs."""
    name = getattr(error, "name", None) or str(error)
    return (
        f"the package {name} is missing from {sys.executable}: this is not the project's environment. {CURE}"
    )
