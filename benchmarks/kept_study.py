"""Tables and figures of a kept study, made anew by today's code from its small files, and its verdicts.

    python benchmarks/kept_study.py results/reference/SUITE OUT [NAME ...]

writes OUT/tables, OUT/figures and OUT/verdicts.csv; OUT may be the study's own folder. NAME: only these
tables and figures, or `verdicts`. Read are suite.yaml, metrics.csv, costs.csv, and scores.csv and paths.csv
(`front_levels.py keep`) where the study has them. The rows follow from suite.yaml, and so does the data of
tasks that generate it, which is prepared again and held against scores.csv; other tasks need their data. What
reads more than that, such as losses, answers or run.json, is left out, and a line says so.

verdicts.csv has a line for `original` and for each row that was unlearned, before any stage: in how many
seeds TOFU's published test of Forget Quality lets it pass as `retrained` (p at least 0.05), and what the gap
says of it (reporting/likeness.py).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from front_levels import read_paths_csv

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_jsonl, write_text
from pipeline_lib.data.records import read_records
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.reporting import style
from pipeline_lib.reporting.catalog import Item
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.figures import draw_figure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import likeness
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.scores import read_scores
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import write_table
from pipeline_lib.steps.prepare_data import prepare_task
from pipeline_lib.study import load_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import manifest_of

NUMBERS = ("metrics.csv", "costs.csv", "scores.csv")
MADE: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "tables": (write_table, ("csv", "md", "tex")),
    "figures": (draw_figure, ("svg", "png")),
}
VERDICTS = "verdicts"
PUBLISHED = "forget_quality"
COLUMNS = ("task", "row", "published test passes", "gap", "signed gap", "limit", "what can be said")


class Kept:
    """The files of a kept study, laid out below `root` as the workflow does it.

    `files`: all but the logs. `logs`: the judged steps of every run, without the losses beside them.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        suite = load_suite(folder / "suite.yaml", kept=True)
        graph = Graph(suite)
        self.shown, described = graph.shown, graph.jobs["describe_suite", ""].settings
        self.files = [root / "suite.yaml", root / "runs.json"]
        for path, text in zip(self.files, (described["suite"], described["runs"]), strict=True):
            write_text(path, text)
        for name in filter(lambda name: (folder / name).is_file(), NUMBERS):
            shutil.copyfile(folder / name, root / name)
            self.files.append(root / name)
        for task in suite.tasks:
            manifest = root / manifest_of(task)
            manifest.parent.parent.mkdir(parents=True, exist_ok=True)
            prepare_task(suite.settings_of(task).data_settings(), manifest.parent)
            self.files.append(manifest)
        if (root / "scores.csv").is_file():
            _check_questions(root)
        paths = folder / "paths.csv"
        self.logs = list(_write_logs(paths, root)) if paths.is_file() else []

    def read_by(self, item: Item) -> list[Path] | None:
        """The files that a table or figure reads; None where some are not kept."""
        judged = item.only_with == "trajectory" and bool(self.logs)
        kept = {path.name for path in self.files} | ({"steps.jsonl"} if judged else set())
        if not kept.issuperset(item.needs):
            return None
        logs = self.logs if judged or item.paths else []
        return [*(path for path in self.files if path.name in item.needs), *logs]


def _check_questions(root: Path) -> None:
    """The data that was prepared again has the questions that were asked then."""
    prepared: dict[str, set[str]] = {}
    for key, scores in read_scores(root / "scores.csv").items():
        if key.task not in prepared:
            records = read_records(root / "data" / key.task / f"{FORGET_SPLIT}.jsonl")
            prepared[key.task] = {record.id for record in records}
        if prepared[key.task] != set(scores[FORGET_SPLIT].ids):
            raise UserError(
                f"task {key.task}: as this version prepares it, its forget questions are not those of "
                "scores.csv. Take the version that made the study."
            )


def _write_logs(paths: Path, root: Path) -> Iterator[Path]:
    for key, judged in read_paths_csv(paths).items():
        path = root / "training" / key.folder / "steps.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, [{"step": step, "judged": found} for step, found in judged])
        yield path


def verdicts(inputs: Inputs) -> Iterator[list[str]]:
    """The lines of verdicts.csv."""
    summary = Summary(inputs)
    for row in inputs.rows:
        anchor = row.group == "anchor" and row.key.method != "original"
        if anchor or row.key.after or (found := likeness(summary, row)) is None:
            continue
        p = summary.by_seed(row, FORGET_SPLIT, PUBLISHED)
        passes = f"{sum(value >= LEVEL for value in p.values())} of {len(p)}" if p else "–"
        limit = "–" if found.limit is None else style.number(found.limit, 2)
        gap, signed = style.number(found.gap, 2), style.signed(found.signed, 2)
        said = found.verdict.replace("`", "")
        yield [row.key.task, style.row_label(row), passes, gap, signed, limit, said]


def write(folder: Path, out: Path, only: Collection[str] = ()) -> list[str]:
    """Write what can be made of the kept files; returns a line for everything that cannot."""
    said = []
    with tempfile.TemporaryDirectory() as place:
        kept = Kept(folder, Path(place))
        for kind, (make, forms) in MADE.items():
            items: dict[str, Item] = getattr(kept.shown, kind)
            (out / kind).mkdir(parents=True, exist_ok=True)
            for name, item in items.items():
                if only and name not in only:
                    continue
                if (files := kept.read_by(item)) is None:
                    said.append(f"left out: {kind}/{name}, which reads {', '.join(item.needs)}")
                else:
                    make(name, files, *(out / kind / f"{name}.{form}" for form in forms))
        if not only or VERDICTS in only:
            write_csv(out / f"{VERDICTS}.csv", COLUMNS, verdicts(Inputs(kept.files)))
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("only", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    print("\n".join(write(arguments.folder, arguments.out, arguments.only)))


if __name__ == "__main__":
    main()
