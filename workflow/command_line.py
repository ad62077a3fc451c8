"""What was typed after `snakemake`, checked before Snakemake acts on it.

Snakemake reads the files of `--configfile` before the Snakefile, and shows a traceback where one is missing
or is no text. The profiles therefore run `refuse()` first (see profiles/default/config.yaml); the Snakefile
calls `check` too, for calls without a profile.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

# The folder of the library, which this file lies beside in a checkout and within where it is installed.
HERE = Path(__file__).resolve()
LIBRARY = next((place for place in HERE.parents if (place / "pipeline_lib").is_dir()), HERE.parents[1])

# Calls that run nothing, and so read no data.
RUN_NOTHING = (
    "unlock",
    "lint",
    "list_rules",
    "list_target_rules",
    "list_input_changes",
    "list_params_changes",
    "list_code_changes",
    "list_untracked",
    "cleanup_metadata",
    "delete_all_output",
    "delete_temp_output",
    "report",
    "summary",
    "detailed_summary",
    "archive",
)
DEFAULT, SUITES = "config.yaml", (".yaml", ".yml", ".json")
EXAMPLE = "snakemake TARGET --configfile SUITE.yaml"


def given() -> Namespace | None:
    """The arguments of this process's `snakemake`; None in a process that is none, and in one of its jobs."""
    found = _arguments()
    return found if found is not None and str(found.mode) in ("default", "ExecMode.DEFAULT") else None


def jobs_of_the_group() -> int:
    """How many jobs a cluster's job is to run in this process; 0 in the main process."""
    found = _arguments()
    return 0 if found is None else len(found.target_jobs)


def _arguments() -> Namespace | None:
    program = Path(sys.argv[0])
    if program.name != "snakemake" and program.parent.name != "snakemake":
        return None
    from snakemake.cli import get_argument_parser

    try:
        return get_argument_parser().parse_known_args(sys.argv[1:])[0]
    except (SystemExit, Exception):  # Snakemake itself says what is wrong with an option
        return None


def runs_jobs(arguments: Namespace) -> bool:
    """Whether this call plans or runs jobs."""
    return not any(getattr(arguments, name, None) for name in RUN_NOTHING)


def check(arguments: Namespace, typed: Sequence[str]) -> None:
    """Raise one `UserError` for a call that cannot mean what it says. `typed`: the words of the call."""
    from pipeline_lib.core.errors import UserError
    from pipeline_lib.study import check_suite_file

    files = [str(path) for path in arguments.configfile or ()]
    times = sum(word.split("=")[0] in ("--configfile", "--configfiles") for word in typed)
    swallowed = [word for word in files[1:] if not word.endswith(SUITES) or not Path(word).is_file()]
    if swallowed:
        raise UserError(
            f"--configfile: takes every word after it, and so took {', '.join(swallowed)}; expected one "
            f"suite file. Write what is to be made before it: {EXAMPLE}"
        )
    if len(files) > 1 or times > 1:
        shown = ", ".join(files) if len(files) > 1 else f"{times} times the option"
        raise UserError(
            f"--configfile: found {shown}; expected one file. A suite is whole in one file, and Snakemake "
            "would mix two into one, or forget the first. Run each by itself, or copy one and change it."
        )
    if files:
        check_suite_file(files[0])
    elif Path(DEFAULT).is_file():  # what a plain call reads
        check_suite_file(DEFAULT)
    for entry in arguments.config or ():
        _, sign, _ = entry.partition("=")
        if not sign:
            raise UserError(
                f"--config: expected NAME=VALUE, found {entry!r}. It takes every word after it: write what "
                "is to be made before it (snakemake TARGET --config NAME=VALUE), and quote a value with "
                "spaces (--config 'seeds=[0, 1]')"
            )
    for target in arguments.targets or ():
        if target.endswith(SUITES) and Path(target).is_file() and Path(target).parts[:1] != ("results",):
            raise UserError(
                f"{target}: is a file, and Snakemake takes it for something to be made. A suite stands after "
                f"its option: snakemake --configfile {target}"
            )


def read_again(value: Any, typed: Any) -> Any:
    """`value` of the configuration with what `--config` gave (`typed`) read as a suite file would read it.

    Snakemake leaves what stands in a list or a block as text: seeds=[0,1] as "0" and "1".
    """
    if isinstance(value, dict) and isinstance(typed, Mapping):
        return {name: read_again(v, typed[name]) if name in typed else v for name, v in value.items()}
    if isinstance(value, list) and isinstance(typed, Sequence) and len(value) == len(typed):
        return [read_again(item, given) for item, given in zip(value, typed, strict=True)]
    if not isinstance(value, str) or not value.strip():
        return value  # an empty text is one; YAML reads nothing from it
    try:
        found = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value
    return value if isinstance(found, dict | list) else found


def memory_mb(root: Path = Path("/")) -> int:
    """MiB of memory that this process may use: the machine's, or less in a container or a cluster's job."""
    limits, groups = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")], ["0::/", "0:memory:/"]
    with suppress(OSError):  # not Linux
        groups += (root / "proc/self/cgroup").read_text().splitlines()
    for group in groups:  # of Linux's second version (no name) and of its first; a limit counts for all below
        _, kind, place = group.split(":", 2)
        top, name = ("memory", "memory.limit_in_bytes") if kind else ("", "memory.max")
        folder = Path("sys/fs/cgroup", top, place.lstrip("/"))
        for level in (folder, *folder.parents[:-3]) if kind in ("", "memory") else ():
            with suppress(OSError, ValueError):  # none here, and "max"
                limits.append(int((root / level / name).read_text()))
    return min(limits) // 2**20


def refuse() -> None:
    """End this process with one message where the call cannot be meant so."""
    arguments = given()
    if arguments is None:
        return
    if str(LIBRARY) not in sys.path:
        sys.path.insert(0, str(LIBRARY))
    from pipeline_lib.core.environment import missing_package

    try:
        from pipeline_lib.core.errors import UserError

        try:
            check(arguments, sys.argv[1:])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
    except ImportError as error:
        print(f"error: {missing_package(error)}", file=sys.stderr)
        sys.exit(1)
