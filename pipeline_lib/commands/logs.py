"""Other projects' result files: read into this project's definitions, and written from its records."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline_lib.core.sealing import sealed_jsonl


def add(commands) -> None:
    """`tofu-log`, `open-unlearning-log` and `export-open-unlearning`."""
    tofu = commands.add_parser(
        "tofu-log", help="Forget Quality and Model Utility from logs of the TOFU repository"
    )
    for name, text in (("unlearned", "judged"), ("retrained", "that never saw the forget set")):
        tofu.add_argument(
            f"--{name}",
            required=True,
            type=Path,
            metavar="LOG",
            help=f"eval_log_aggregated.json of the model {text}",
        )
    tofu.add_argument(
        "--matched", action="store_true", help="test on the forget questions that both logs hold"
    )
    tofu.add_argument(
        "--variant",
        choices=("geometric", "arithmetic"),
        default="geometric",
        help="mean over wrong answers in the truth ratio; TOFU's tables are geometric, its utils.py is not",
    )
    tofu.add_argument(
        "--equal-n",
        type=int,
        metavar="N",
        help="also test at N questions, to compare with a forget set of another size",
    )
    tofu.set_defaults(run=_tofu_log)

    peer = commands.add_parser(
        "open-unlearning-log", help="summary of OpenUnlearning's TOFU logs, recomputed beside theirs"
    )
    peer.add_argument(
        "files", nargs="+", metavar="FILE", type=Path, help="TOFU_EVAL.json or TOFU_SUMMARY.json"
    )
    peer.add_argument(
        "--retrained", type=Path, metavar="FILE", help="TOFU_EVAL.json of `retrained`, for forget quality"
    )
    peer.set_defaults(run=_open_unlearning_log)

    export = commands.add_parser(
        "export-open-unlearning", help="write a run's records as TOFU_EVAL.json and TOFU_SUMMARY.json"
    )
    export.add_argument("records", metavar="RECORDS", type=Path, help="records.jsonl of the run")
    export.add_argument(
        "--manifest", required=True, type=Path, metavar="FILE", help="manifest.json of its task"
    )
    export.add_argument(
        "--retrained", type=Path, metavar="RECORDS", help="records.jsonl of `retrained`, same seed"
    )
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the two files")
    export.set_defaults(run=_export)


def _tofu_log(given: Namespace) -> int:
    from pipeline_lib.peers.tofu_log import compare, read_tofu_log

    unlearned, retrained = read_tofu_log(given.unlearned), read_tofu_log(given.retrained)
    result, warnings = compare(unlearned, retrained, given.variant, given.matched, given.equal_n)
    return _print(result, warnings)


def _open_unlearning_log(given: Namespace) -> int:
    from pipeline_lib.peers.open_unlearning.read import read_log, recompute

    retrained = None if given.retrained is None else read_log(given.retrained)
    return _print({str(path): recompute(read_log(path), retrained) for path in given.files}, [])


def _export(given: Namespace) -> int:
    from pipeline_lib.peers.checks import read_object
    from pipeline_lib.peers.open_unlearning.export import export, write_export

    retrained = None if given.retrained is None else sealed_jsonl(given.retrained, needed=False)
    manifest = read_object(given.manifest, "the manifest.json of the run's task")
    logs, left_out = export(sealed_jsonl(given.records, needed=False), manifest, retrained)
    for path in write_export(logs, given.out):
        print(path)
    return _print(None, left_out)


def _print(result: Any, warnings: list[str]) -> int:
    """Print the result, if any, as JSON on stdout, and warnings on stderr."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if result is not None:
        print(json.dumps(result, indent=2, allow_nan=False))
    return 0
