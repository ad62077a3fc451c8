"""Tables, each written as csv (raw numbers), Markdown and LaTeX (text for people)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline_lib.core.files import write_text
from pipeline_lib.reporting import catalog
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables.layout import Table, to_csv, to_latex, to_markdown


def build_table(name: str, inputs: Inputs) -> list[Table]:
    """One table for each task and model."""
    item = catalog.find(catalog.ALL_TABLES, name)
    inputs.require(item.needs, f"table {name}")
    return item.load().build(inputs)


def write_table(
    name: str,
    paths: Iterable[Path | str],
    out_csv: Path | str,
    out_md: Path | str,
    out_tex: Path | str,
    tasks: Collection[str] | None = None,
) -> None:
    """Make the table `name` from `paths`: the files that `catalog.ALL_TABLES[name].needs` lists.

    `tasks`: where `paths` hold the files of these tasks only.
    """
    tables = build_table(name, Inputs(paths, tasks))
    item = catalog.ALL_TABLES[name]
    # The report shows the captions of all others.
    caption = item.load().CAPTION if name in catalog.PAPER_TABLES else ""
    write_text(out_csv, to_csv(tables))
    write_text(out_md, to_markdown(item.title, tables, caption))
    write_text(out_tex, to_latex(tables, caption))
