"""Unlearn texts from a model, and certify what is left of them."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h)?")


def minutes(text: str) -> float:
    """`30m`, `1.5h`, or a number of minutes."""
    found = _TIME.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise ArgumentTypeError(f"expected a time such as 30m or 2h, found {text!r}")
    return float(found[1]) * (60 if found[2] == "h" else 1)


def add(commands) -> None:
    """`forget`."""
    forget = commands.add_parser("forget", help="unlearn texts from a model, and certify what is left")
    forget.add_argument("--model", required=True, help="a folder, a .gguf file, or an id of the hub")
    forget.add_argument(
        "--texts", required=True, type=Path, metavar="PLACE", help="a file or a folder: .txt, .md, or a table"
    )
    forget.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder for everything")
    forget.add_argument(
        "--retain", type=Path, metavar="PLACE", help="what must stay known (default: documents of C4)"
    )
    forget.add_argument(
        "--holdout", type=Path, metavar="PLACE", help="texts like them that the model has not seen"
    )
    forget.add_argument("--method", default="SimNPO", help="default: SimNPO")
    forget.add_argument("--optimizer", default="adamw", help="default: adamw")
    forget.add_argument("--budget", type=minutes, default=60.0, metavar="TIME", help="30m, 2h (default: 1h)")
    forget.add_argument(
        "--utility",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="least share of the utility (default: 0.9)",
    )
    forget.add_argument("--seed", type=int, default=0, metavar="N")
    forget.add_argument("--cores", type=int, metavar="N", help="default: all")
    forget.add_argument(
        "--adapter", action="store_true", help="train an adapter, and leave it beside the whole model"
    )
    forget.add_argument(
        "--anyway", action="store_true", help="go on where the model shows no knowledge of them"
    )
    forget.add_argument("--dry-run", action="store_true", help="write the data and the suite, show the plan")
    forget.add_argument("--verbose", action="store_true", help="show Snakemake's own output")
    forget.set_defaults(run=_forget)


def _forget(given: Namespace) -> int:
    from pipeline_lib.removal import Request, forget, ready

    fields = (
        "model",
        "texts",
        "out",
        "retain",
        "holdout",
        "method",
        "optimizer",
        "budget",
        "utility",
        "seed",
        "adapter",
        "anyway",
    )
    request = Request(**{name: getattr(given, name) for name in fields})
    if given.dry_run:
        from pipeline_lib.operations.plan import plan_text

        checked = ready(request, given.cores)
        print(f"{plan_text(checked.suite)}\n\nThe suite is in {checked.path}; nothing was run.")
        return 0
    outcome = forget(request, given.cores, given.verbose)
    print(f"Now {outcome.after.text()}.")
    if outcome.adapter is not None:
        print(f"The adapter: {outcome.adapter}")
    print(f"The unlearned model: {outcome.model}\nThe certificate: {outcome.certificate.resolve()}")
    return 0
