"""Check suite files, and keep the JSON schema of suites in step."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_text
from pipeline_lib.core.shipped import WORKFLOW

SCHEMA = WORKFLOW / "schemas" / "suite.schema.json"


def add(commands) -> None:
    """`validate` and `schema`."""
    validate = commands.add_parser(
        "validate", help="check suite files and what they read, and count their runs"
    )
    validate.add_argument("files", nargs="+", metavar="FILE", type=Path)
    validate.set_defaults(run=lambda given: _validate(given.files))

    schema = commands.add_parser("schema", help=f"write {SCHEMA.name}, which editors read")
    schema.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of step")
    schema.set_defaults(run=lambda given: _schema(given.check))


def _validate(files: Sequence[Path]) -> int:
    from pipeline_lib.operations.plan import check_inputs, sign_flips
    from pipeline_lib.study import load_suite
    from pipeline_lib.study.stages import StagedRow
    from pipeline_lib.study.table import models_of

    status = 0
    for path in files:
        try:
            suite = load_suite(path)
            try:
                unseen = check_inputs(suite)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        except UserError as error:
            print(error, file=sys.stderr)
            status = 1
        else:
            index = models_of(suite)
            anchors = sum(made is None for made in index.values())
            staged = sum(isinstance(made, StagedRow) for made in index.values())
            also = f", {staged} models of stages" if staged else ""
            runs = len(index) - anchors - staged
            print(f"{path}: OK, {runs} unlearning runs{also} and {anchors} models to compare with")
            tests = sign_flips(suite) if suite.comparisons else ()
            for line in (*unseen, *tests):
                print(f"  {line}")
    return status


def _schema(check: bool) -> int:
    from pipeline_lib.study.schema import schema_text

    current = SCHEMA.read_text(encoding="utf-8") if SCHEMA.is_file() else None
    if current == schema_text():
        print(f"{SCHEMA}: in step")
    elif check:
        print(f"{SCHEMA}: out of step with the library; run `unlearning schema`", file=sys.stderr)
        return 1
    else:
        write_text(SCHEMA, schema_text())
        print(f"{SCHEMA}: written")
    return 0
