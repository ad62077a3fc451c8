"""The report: one HTML file that opens from disk, with nothing from the network.

Its scripts only add to what is there without them: charts that answer to the pointer in place of images,
tables that can be sorted, filtered and copied, and the answers to every question.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_text
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting import style
from pipeline_lib.reporting.answers import sample_answers
from pipeline_lib.reporting.cards import CAPTION as CARDS
from pipeline_lib.reporting.cards import SUITE, cards
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES, Item
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.every_answer import every_answer
from pipeline_lib.reporting.headline import Measure
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.page import chart_library, data_block, page_of
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.layout import LATEX

READS = ("template/report.html", "template/report.js", "template/answers.js")
OPTIONAL = ("records.jsonl",)  # without them the report shows no answers
PANEL = b'id="axes_'  # in every svg of matplotlib that has axes; one without them says only what is not shown


def write_report(paths: Iterable[Path | str], out_html: Path | str) -> None:
    """Write the report from the files of `catalog.REPORT_NEEDS` and the svg and csv files to show.

    Files named in OPTIONAL may be left out. Tables are built anew from the same files; their csv files are
    only linked, relative to `out_html`.
    """
    inputs = Inputs(paths)
    inputs.require([name for name in REPORT_NEEDS if name not in OPTIONAL], "the report")
    folder = Path(out_html).absolute().parent
    tables = _tables(inputs, folder)
    answers = inputs.have(*OPTIONAL)
    figures = _figures(inputs, folder)
    library = [chart_library()] if any(figure["charts"] for figure in figures) else []
    page = page_of(
        "report.html",
        scripts=[*library, *map(_script, ("report.js", *(["answers.js"] if answers else [])))],
        settings=data_block({"latex": LATEX, "dark": style.ON_DARK}),
        every_answer=data_block({"studies": every_answer(inputs)}) if answers else "",
        suite=str(inputs.metrics["suite"].iloc[0]),
        suite_text=inputs.one("suite.yaml").read_text(encoding="utf-8"),
        facts=facts(inputs),
        tasks=_tasks(inputs, tables),
        about_cards=CARDS,
        several=len(inputs.studies) > 1,
        answers=answers,
        figures=figures,
        downloads=[
            (name, _link(inputs.one(name), folder)) for name in ("metrics.csv", "costs.csv", "suite.yaml")
        ],
        row_label=style.row_label,
        stages=[f"{label} ({stage['kind']})" for label, stage in (inputs.suite.get("stages") or {}).items()],
        single_seed=all(len(row.seeds) == 1 for row in inputs.rows),
    )
    write_text(out_html, page)


def _script(name: str) -> str:
    return (Path(__file__).parent / "template" / name).read_text(encoding="utf-8")


def _tables(inputs: Inputs, folder: Path) -> list[dict[str, Any]]:
    """The given tables that have lines; of the others their files have the notes."""
    given = {path.stem: path for path in inputs.ending(".csv")}
    found = [
        {
            "name": name,
            "title": item.title,
            "caption": item.load().CAPTION,
            "tables": [table for table in build_table(name, inputs) if table.lines],
            "link": _link(given[name], folder),
        }
        for name, item in TABLES.items()
        if name in given
    ]
    return [item for item in found if item["tables"]]


def _tasks(inputs: Inputs, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each task is, its tables, and what is said with each model. `place` names the task's sections."""
    found = []
    for number, task in enumerate(dict.fromkeys(task for task, _ in inputs.studies), start=1):
        place = f"task-{number}"
        own = [
            {**item, "tables": of_task, "place": f"table-{item['name']}-{place}"}
            for item in tables
            if (of_task := [table for table in item["tables"] if table.task == task])
        ]
        places = {item["name"]: (item["title"].partition(":")[0], item["place"]) for item in own}
        places[SUITE] = ("The suite", SUITE)
        studies = [
            {
                "model": model,
                "cards": [
                    (card, [[places[name] for name in a.shown_in if name in places] for a in card.answers])
                    for card in cards(inputs, task, model)
                ],
                "findings": findings(inputs, task, model),
                "samples": sample_answers(inputs, task, model) if inputs.have(*OPTIONAL) else [],
            }
            for of, model in inputs.studies
            if of == task
        ]
        about_task = {"name": task, "place": place, "about": about(inputs, task)}
        found.append({**about_task, "tables": own, "studies": studies})
    return found


def about(inputs: Inputs, task: str) -> str:
    """A task in a sentence or two: where it is from, and its usual measures."""
    manifest = inputs.manifests[task]
    if (headline := manifest.get("headline")) is None:  # a study that is older than this entry
        return f"Source of the data: {manifest['source']}."
    first = {side: Measure(*headline[side][0]).named for side in ("forgetting", "utility")}
    return (
        f"Source of the data: {manifest['source']}. Beside the gap and joint utility, its usual measures are "
        f"{first['forgetting']} (forgetting) and {first['utility']} (utility)."
    )


def facts(inputs: Inputs) -> list[tuple[str, str]]:
    """The suite and the machine in a few lines, from the runs' own records."""
    runs = list(inputs.run_files.values())
    seconds = sum(float(run.get("train_time_s") or 0) for run in runs)
    versions = grouped(item for run in runs for item in run.get("versions", {}).items())
    said = [
        ("Runs", f"{len(runs)} trained models, {_minutes(seconds)} of training in all"),
        ("Tasks and models", "; ".join(style.study_label(*study) for study in inputs.studies)),
        ("Seeds", ", ".join(map(str, sorted({seed for row in inputs.rows for seed in row.seeds})))),
    ]
    for task, manifest in inputs.manifests.items():
        sizes = [
            f"{style.split_label(name)} {split['n']} records in {split['groups']} groups"
            for name, split in manifest["splits"].items()
        ]
        said.append((f"Data of {task}", f"{'; '.join(sizes)} (from: {manifest['origin']})"))
    said += [
        ("Device", _distinct(run.get("device") for run in runs)),
        (
            "Versions",
            ", ".join(
                f"{name} {' and '.join(dict.fromkeys(map(str, found)))}" for name, found in versions.items()
            ),
        ),
        ("Commit", _distinct(run.get("git_commit") for run in runs)),
    ]
    return [(name, visible(text)) for name, text in said]


def _figures(inputs: Inputs, folder: Path) -> list[dict[str, Any]]:
    """Each given figure that has a panel, as an image in the page; `links` are relative to `folder`."""
    given = {path.stem: path for path in inputs.ending(".svg")}
    if unknown := sorted(set(given) - set(FIGURES)):
        raise UserError(
            f"{given[unknown[0]]}: no figure is called {unknown[0]!r}; there are: {', '.join(FIGURES)}"
        )
    if missing := [path for path in given.values() if not path.is_file()]:
        raise UserError(f"{missing[0]}: no such file")
    # As an image, not inline: the ids and styles of two figures cannot meet, and nothing in it can run.
    return [
        {
            "name": name,
            "title": item.title,
            "caption": item.load().CAPTION,
            "source": "data:image/svg+xml;base64," + base64.b64encode(given[name].read_bytes()).decode(),
            "charts": _charts(item, inputs),
            "links": [(form, _link(given[name].with_suffix(f".{form}"), folder)) for form in ("svg", "png")],
        }
        for name, item in FIGURES.items()
        if name in given and PANEL in given[name].read_bytes()
    ]


def _charts(item: Item, inputs: Inputs) -> str:
    """The figure as charts of the page; empty where its module has none, or its files are not given."""
    make = getattr(item.load(), "charts", None)
    found = make(inputs) if make and inputs.have(*item.needs) else []
    return data_block([chart.block() for chart in found]) if found else ""


def _link(path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(path.absolute(), folder)).as_posix())


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys("unknown" if value is None else str(value) for value in values))


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} minutes"
        if seconds < 7200
        else f"{seconds / 3600:.1f} hours"
    )
