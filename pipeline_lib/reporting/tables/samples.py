"""What sampled answers give away, beside the one greedy answer."""

from __future__ import annotations

from pipeline_lib.reporting import style
from pipeline_lib.reporting.tables.of_metrics import metric_tables

CAPTION = (
    "Several sampled answers to each forget question (Scholten et al., arXiv 2410.03523). Leakage of an "
    "answer is its ROUGE-L recall of the true one. A greedy answer that looks clean says little about what a "
    "model still prints now and then: the maximum over the samples does. Bounds hold for each question by "
    "itself, and are averaged here; they are wide where there are few samples."
)

build = metric_tables(
    lambda *_: [("forget", metric.name, metric.short) for metric in style.in_table("samples")]
)
