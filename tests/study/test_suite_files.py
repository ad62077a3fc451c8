"""Suite files: the ones that are shipped, short ones with a preset, and the resolved form that is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_lib.core.errors import UserError
from pipeline_lib.study import check_suite_file, dump_suite, load_suite, parse_suite
from pipeline_lib.study.presets import PRESETS
from pipeline_lib.study.table import models_of
from tests.paths import REPO
from tests.study.suites import small

KEPT = sorted((REPO / "results/reference").glob("*/suite.yaml"))
SHIPPED = [REPO / "config.yaml", *sorted((REPO / "config").glob("*.yaml"))]
LIST = (REPO / "config" / "README.md").read_text(encoding="utf-8")

TEN_LINES = """\
suite: mine
preset: {preset}
seeds: [0, 1]
objectives:
  GradDiff:
  NPO: {{beta: 0.2}}
optimizers:
  adamw: {{learning_rate: 5e-6}}
  slow: {{kind: sophia, learning_rate: 1e-6}}
unlearn: {{epochs: 2}}
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_suites_are_valid_and_named_after_their_file(path: Path) -> None:
    suite = load_suite(path)
    assert suite.suite == ("demo" if path.name == "config.yaml" else path.stem)
    assert len({key[2] for key in models_of(suite)}) > 2, "no unlearning run"
    shown = path.relative_to(REPO).as_posix()
    link = "../config.yaml" if path.name == "config.yaml" else path.name
    assert f"\n| [`{shown}`]({link})" in LIST, "the table of config/README.md says what each suite is"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_ten_lines_with_a_preset_are_a_suite(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEN_LINES.format(preset=preset))
    suite = load_suite(path)
    assert len(suite.run_table()) == 2 * 2 * 2
    assert suite.optimizers["adamw"].learning_rate == 5e-6
    assert suite.unlearn.epochs == 2, "what the suite says counts"
    assert suite.unlearn.batch_size == PRESETS[preset]["unlearn"]["batch_size"], "the preset fills the rest"
    assert list(suite.models) == list(PRESETS[preset]["models"])
    assert suite.finetune.learning_rate == PRESETS[preset]["finetune"]["learning_rate"]


def test_a_family_that_is_given_replaces_the_one_of_the_preset() -> None:
    raw = {
        **yaml.safe_load(TEN_LINES.format(preset="tiny")),
        "models": {"mine": {"source": "scratch", "layers": 1}},
    }
    assert list(parse_suite(raw).models) == ["mine"]


def test_a_block_left_empty_is_the_one_of_the_preset() -> None:
    raw = yaml.safe_load(TEN_LINES.format(preset="tiny"))
    assert parse_suite({**raw, "finetune": None}) == parse_suite(raw)


def test_reading_leaves_the_raw_suite_and_the_presets_as_they_were() -> None:
    raw, presets = yaml.safe_load(TEN_LINES.format(preset="tiny")), repr(PRESETS)
    before = repr(raw)
    parse_suite(raw)
    assert (repr(raw), repr(PRESETS)) == (before, presets)


def suites() -> list[dict]:
    block = {"methods": ["NPO"], "optimizers": ["adamw"], "optimizer": {"learning_rate": "1e-5"}}
    return [
        *(yaml.safe_load(path.read_text()) for path in SHIPPED),
        *(yaml.safe_load(TEN_LINES.format(preset=preset)) for preset in PRESETS),
        small(runs=[block], evaluation={"max_records": {"forget": 4}}),
        small(
            models={
                "m": {
                    "source": "scratch",
                    "prompt": {"template": "{prompt}\n\t: é\u2028", "answer_prefix": ""},
                }
            }
        ),
    ]


@pytest.mark.parametrize("raw", suites())
def test_the_resolved_suite_reads_back_the_same(raw: dict, tmp_path: Path) -> None:
    suite = parse_suite(raw)
    path = tmp_path / "suite.yaml"
    path.write_text(dump_suite(suite), encoding="utf-8")
    again = load_suite(path)
    assert again.resolved() == suite.resolved()
    assert again.run_table() == suite.run_table()
    assert dump_suite(again) == dump_suite(suite)
    assert dump_suite(suite) == dump_suite(parse_suite(raw)), "the same suite gives the same text"


def test_the_resolved_suite_spells_out_every_default() -> None:
    resolved = yaml.safe_load(dump_suite(parse_suite(small())))
    assert list(resolved)[:2] == ["suite", "seeds"], "in the order of a suite, not of the alphabet"
    assert "preset" not in resolved
    assert resolved["optimizers"]["adamw"] == {
        "kind": "adamw",
        "learning_rate": 1e-4,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.0,
    }
    assert resolved["evaluation"]["max_records"] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a suite is a block of `name: value` lines, found nothing"),
        ("suite: [a", r"not valid YAML: line 1, column 10: "),
        ("suite: x\n\tseeds: [0]", r"not valid YAML: line 2, column 1: "),
        (
            "suite: x\nseeds: [0]\nseeds: [1]",
            "not valid YAML: line 3, column 1: the key 'seeds' appears twice",
        ),
        ("suite: 2024-13-01", "not valid YAML: month must be in 1..12"),
        ("suite: !!python/name:os.system", "not valid YAML: line 1, column 8: "),
        ("suite: x\nsuite2: *nobody", "not valid YAML: line 2, column 9: "),
        ("suite: x", "the suite has 4 errors:\n"),
        ("[" * 5000, "not valid YAML: blocks and lists are nested too deeply"),
        ("suite: " + "9" * 5000, "not valid YAML: a number of 5000 digits"),
    ],
)
def test_a_bad_file_is_named_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_suite(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read \(No such file"):
        load_suite(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("suite: größe".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8 \(byte 9 is 0xf6\)"):
        load_suite(tmp_path / "latin.yaml")


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.parent.name)
def test_kept_results_of_earlier_versions_stay_readable(path: Path, capsys) -> None:
    suite = load_suite(path, kept=True)
    assert (suite.suite, suite.run_table() != []) == (path.parent.name, True)
    told = capsys.readouterr().err
    former = {"core": "tune.select.retain_within"}.get(path.parent.name, "evaluation.benchmarks.engine")
    assert told in ("", f"{path}: written by an earlier version; read without {former}\n")


def test_a_former_setting_is_refused_in_a_suite_that_is_to_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    evaluation = {"benchmarks": {"tasks": ["piqa"], "engine": "builtin"}}
    task = {"source": "fictitious", "evaluation": evaluation}
    raw = small(evaluation=evaluation, tasks={"engine": task})
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match="unknown key 'engine'; allowed: folder"):
        load_suite(path)
    assert list(load_suite(path, kept=True).tasks) == ["engine"], "a label may have that name"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a suite is a block of `name: value` lines, found an empty file"),
        ("[1, 2]", "a suite is a block of `name: value` lines, found a list"),
        ("{}", "a suite is a block of `name: value` lines, found"),
        ("suite: a\n__use_yte__: true", "__use_yte__ lets a file run code while Snakemake reads it"),
    ],
)
def test_what_snakemake_would_read_otherwise_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        check_suite_file(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_suite_passes_that_check(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small()))
    check_suite_file(path)
