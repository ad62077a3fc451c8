"""Every number of our texts that is wrong or has no source: python -m tests.texts [--write] [PAGE ...]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.texts.page import Page
from tests.texts.pages import paths
from tests.texts.tables import Library


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.texts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="compute marked numbers and tables anew")
    parser.add_argument("page", nargs="*", type=Path, help="the pages (default: all)")
    chosen = parser.parse_args()
    library, faults = Library(), []
    for path in chosen.page or paths():
        page = Page(path, library)
        if chosen.write and (text := page.rewritten()) != page.text:
            path.write_text(text, encoding="utf-8")
            page = Page(path, library)
            print(f"{path}: written anew; read the sentences around the numbers that changed")
        faults += page.faults()
    print("\n".join(faults) or "every number is computed, and every claim holds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
