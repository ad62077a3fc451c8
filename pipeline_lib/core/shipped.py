"""What comes with the library beside its code: the workflow and the suites.

In a checkout they lie beside the package, where `snakemake` finds them; a wheel holds them in it (setup.py).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_INSIDE = (_PACKAGE / "workflow" / "Snakefile").is_file()
ROOT = _PACKAGE if _INSIDE else _PACKAGE.parent
WORKFLOW = ROOT / "workflow"


def suites() -> dict[str, Path]:
    """The suites that come with the library, by name; `demo` is the first."""
    others = sorted((ROOT / "config").glob("*.yaml"))
    return {"demo": ROOT / "config.yaml", **{path.stem: path for path in others}}
