"""Files that were damaged after they were written: cut, or with one byte changed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_lib.engine import evaluate as engine
from tests.failures import children
from tests.failures.outcome import CONTINUED, Outcome, short
from tests.failures.storage import run_to_a_checkpoint
from tests.failures.study import Study, check_same


def cut(path: Path) -> None:
    """Leave the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_at_a_line(path: Path) -> None:
    """Leave whole lines, but not all of them."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) // 2]))


def flip_near_the_end(path: Path) -> None:
    """Change one bit in the last tenth of a file: in a tensor, not in a header."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 10] ^= 1
    path.write_bytes(bytes(content))


def change_a_digit(path: Path) -> None:
    """Turn the last digit of a file into another one."""
    text = path.read_text()
    at = max(place for place, letter in enumerate(text) if letter.isdigit())
    path.write_text(text[:at] + ("1" if text[at] != "1" else "2") + text[at + 1 :])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


CHECKPOINT: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a bit of a tensor changed": ("tensors.safetensors", flip_near_the_end),
    "tensors cut": ("tensors.safetensors", cut),
    "tensors empty": ("tensors.safetensors", empty),
    "tensors missing": ("tensors.safetensors", remove),
    "a digit of the state changed": ("state.json", change_a_digit),
    "state cut": ("state.json", cut),
    "state missing": ("state.json", remove),
}
MODEL: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a bit of a weight changed": ("model.safetensors", flip_near_the_end),
    "weights cut": ("model.safetensors", cut),
    "weights missing": ("model.safetensors", remove),
    "config.json cut": ("config.json", cut),
    "tokenizer.json cut": ("tokenizer.json", cut),
    "tokenizer.json missing": ("tokenizer.json", remove),
    "prompt.json cut": ("prompt.json", cut),
    "run.json cut": ("run.json", cut),
    "run.json missing": ("run.json", remove),
}
DATA: dict[str, tuple[str, Callable[[Path], None]]] = {
    "split cut": ("forget.jsonl", cut),
    "split cut at a line": ("forget.jsonl", cut_at_a_line),
    "manifest cut": ("manifest.json", cut),
}
PART: dict[str, Callable[[Path], None]] = {"cut": cut, "cut at a line": cut_at_a_line, "empty": empty}


def damaged_checkpoint(study: Study, step: str) -> Outcome:
    """Kill the step at its first checkpoint and damage that in every way: it starts over and says so."""
    whole = study.fresh(f"whole checkpoint {step}")
    run_to_a_checkpoint(study, step, whole)
    for name, (file, damage) in CHECKPOINT.items():
        root = study.fresh(f"damaged checkpoint {step}")
        shutil.copytree(whole, root, dirs_exist_ok=True)
        damage(root / "checkpoint" / file)
        again = study.run(step, root)
        assert again.well, f"{name}: {again.said}"
        assert "starting over" in again.said, f"{name}: the checkpoint was used"
        check_same(root, study.undisturbed(step))
    became = "“unreadable checkpoint (...), starting over”; same bits as undisturbed"
    return Outcome(f"{step}: checkpoint", ", ".join(CHECKPOINT), became)


def damaged_model(study: Study) -> Outcome:
    """Damage the model folder that an evaluation reads, in every way; put it back."""
    return _damaged_input(study, study.original, MODEL, "model folder")


def damaged_data(study: Study) -> Outcome:
    """Damage the prepared data that an evaluation reads, in every way; put them back."""
    return _damaged_input(study, study.data, DATA, "prepared data")


def _damaged_input(
    study: Study, folder: Path, damages: dict[str, tuple[str, Callable[[Path], None]]], where: str
) -> Outcome:
    kept = study.fresh(f"kept {where}")
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    said = ""
    for name, (file, damage) in damages.items():
        root = study.fresh(f"damaged {where}")
        damage(folder / file)
        try:
            refused = study.run("evaluation", root)
        finally:
            shutil.copy(kept / file, folder / file)
        assert refused.status == 1, f"{name}: {refused.said}"
        assert str(folder) in refused.message, f"{name}: {refused.message}"
        assert not (root / "records.jsonl").exists()
        said = said or refused.message
    again = study.run("evaluation", root)
    assert again.well, again.said
    check_same(root, study.undisturbed("evaluation"))
    return Outcome(f"evaluation: {where}", ", ".join(damages), f"“{short(said)}”; put back, {CONTINUED}")


def damaged_part(study: Study) -> Outcome:
    """Kill an evaluation after its first finished split and damage what it kept of it."""
    whole = study.fresh("whole part")
    _run_to_a_part(study, whole)
    for name, damage in PART.items():
        root = study.fresh("damaged part")
        shutil.copytree(whole, root, dirs_exist_ok=True)
        (part,) = (root / "work").iterdir()
        damage(part)
        again = study.run("evaluation", root)
        assert again.well, f"{name}: {again.said}"
        assert "is evaluated again" in again.said, f"{name}: the part was used"
        check_same(root, study.undisturbed("evaluation"))
    became = "“... this split is evaluated again”; same bits as undisturbed"
    return Outcome("evaluation: finished split", ", ".join(PART), became)


def _run_to_a_part(study: Study, root: Path) -> None:
    """Kill an evaluation right after its first split."""
    write = engine.write_jsonl

    def write_and_die(*arguments: Any) -> None:
        write(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    def dying() -> None:
        engine.write_jsonl = write_and_die  # type: ignore[assignment]
        study.step("evaluation", root)()

    killed = children.run(dying, root.with_name(f"{root.name}.log"))
    assert killed.killed, killed.said
