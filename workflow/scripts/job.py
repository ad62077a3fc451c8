"""What every script shares: output goes to the job's log, and a `UserError` ends without a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The library lies beside workflow/, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Send stdout and stderr to the rule's log and end the process with status 1 on any error."""
    from pipeline_lib.errors import UserError

    log = Path(snakemake.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = sys.stderr
    with open(log, "w", encoding="utf-8", buffering=1) as handle:
        sys.stdout = sys.stderr = handle
        try:
            yield
        except UserError as error:
            for stream in (handle, terminal):
                print(f"error: {error}", file=stream)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=handle)
            raise
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, terminal
