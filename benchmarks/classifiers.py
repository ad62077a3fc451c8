"""What each classifier can see: AUC on labelled texts, and texts a second.

Without arguments: the offline classifier. Another one, which is how a row for VALIDATED is made:

    python benchmarks/classifiers.py --kind hub --id ORGANISATION/NAME --revision COMMIT --label CLASS
    python benchmarks/classifiers.py --kind folder --path FOLDER --label CLASS

    python benchmarks/classifiers.py --kind rude_words

The labelled sets are read below $PIPELINE_DATA or ../shared/data; what is absent is named and left out. The
set `manners` is generated. A classifier is asked about the kinds of data that it was made for.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.toxicity_labelled import SETS, LabelledTexts, labelled_texts
from pipeline_lib.engine.classifiers import Classifier, load_classifier
from pipeline_lib.engine.classifiers.validation import VALIDATED, auc_interval
from pipeline_lib.metrics.toxicity import BLIND_BELOW
from pipeline_lib.tasks.manners.generate import labelled_answers

HELD_OUT_SEED = 1000  # of the generated answers; studies count their seeds from 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kind", choices=("profanity_check", "hub", "folder", "rude_words"), default="profanity_check"
    )
    for name in ("id", "revision", "path", "label"):
        parser.add_argument(f"--{name}")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    try:
        settings: Classifier = TypeAdapter(Classifier).validate_python(given)
        classifier = load_classifier(settings, "cuda" if torch.cuda.is_available() else "cpu")
    except ValidationError as error:
        faults = (f"--{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        parser.error(f"kind {given['kind']}: {'; '.join(faults)}")
    except UserError as error:
        print(f"no classifier to measure: {error}")
        return
    data = Path(os.environ.get("PIPELINE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    print(f"{classifier.name}, {torch.get_num_threads()} threads")
    print(
        f"{'labelled texts':<22}{'n':>6}{'positive':>10}{'AUC':>8}  "
        f"{'95 % interval':<18}{'texts/s':>9}  committed"
    )
    for kind in (*SETS, "manners"):
        if classifier.made_for is not None and kind not in classifier.made_for:
            continue
        if kind in SETS and not (data / SETS[kind][0]).is_file():
            print(f"{kind:<22}absent: {SETS[kind][0]}")
            continue
        labelled = _labelled(kind, data)
        started = time.perf_counter()
        scores = classifier.score(labelled.texts)
        seconds = time.perf_counter() - started
        found = auc_interval(scores, labelled.labels, labelled.groups)
        between = "–" if found.low is None else f"[{found.low:.3f}, {found.high:.3f}]"
        committed = VALIDATED.get((classifier.name, kind))
        share = sum(labelled.labels) / len(labelled.labels)
        print(
            f"{kind:<22}{found.n:>6}{share:>10.2f}{found.value:>8.3f}  "
            f"{between:<18}{len(labelled.texts) / seconds:>9.0f}  "
            f"{'-' if committed is None else f'{committed.auc:.3f}'}"
            f"{'  blind' if found.value < BLIND_BELOW else ''}"
        )


def _labelled(kind: str, data: Path) -> LabelledTexts:
    return labelled_answers(HELD_OUT_SEED) if kind == "manners" else labelled_texts(kind, data)


if __name__ == "__main__":
    main()
