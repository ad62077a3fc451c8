"""Suite files as text: what YAML can do beyond data is refused, in one message, whoever reads the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from pipeline_lib.core.errors import UserError
from pipeline_lib.study import check_suite_file, load_suite
from tests.paths import REPO
from tests.study.mutations import mutants
from tests.study.suites import small

ODDITIES = {
    "a python object": b'x: !!python/object/apply:os.system ["touch pwned"]',
    "a tag of our own": b"x: !ours 3",
    "a month 13": b"x: 2024-13-01",
    "an unknown anchor": b"x: *nope",
    "itself": b"x: &x [*x]",
    "a merge of itself": b"x: &x {<<: *x}",
    "a billion laughs": b"a: &a ["
    + b"x," * 9
    + b"]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "a list 5000 deep": b"x: " + b"[" * 5000 + b"]" * 5000,
    "half a character": b'x: "\\uD800"',
    "not UTF-8": b"x: \xff\xfe",
    "a character 0": b"x: \x00",
    "a tab": b"\tx: 1",
    "two documents": b"---\nsuite: other",
    "a key twice": b"suite: other",
    "a key that is a list": b"? [a, b]\n: 1",
    "a key that is NaN": b".nan: 1",
    "a number of 5000 digits": b"seeds: [" + b"9" * 5000 + b"]",
    "base sixty": b"seeds: [1:30]",
    "binary": b"x: !!binary aGVsbG8=",
    "a set": b"x: !!set {a, b}",
    "a template": b'__use_yte__: true\n__definitions__:\n  - open("pwned", "w")',
    "nothing open": b"x: {a: [1, 2",
    "a byte order mark within": b"x: \xef\xbb\xbf1",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_odd_file_is_refused_in_one_message(place: Path, oddity: str) -> None:
    path = place / "suite.yaml"
    path.write_bytes(yaml.safe_dump(small()).encode() + b"\n" + ODDITIES[oddity] + b"\n")
    with pytest.raises(UserError) as caught:
        load_suite(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message) < 2000, message
    assert "Traceback" not in message and "Error" not in message
    assert not (place / "pwned").exists()


def test_what_snakemake_would_let_through_is_refused(place: Path) -> None:
    path = place / "suite.yaml"
    for oddity, said in (("a key twice", "appears twice"), ("a template", "a suite is data")):
        path.write_bytes(yaml.safe_dump(small()).encode() + b"\n" + ODDITIES[oddity] + b"\n")
        with pytest.raises(UserError, match=said):
            check_suite_file(path)
    for whole in (REPO / "config.yaml", *sorted((REPO / "config").glob("*.yaml"))):
        check_suite_file(whole)
    path.write_text('{"suite":\t"json"}')  # no YAML
    check_suite_file(path)
    path.write_text('{"suite":\t"json", "suite": "json"}')
    with pytest.raises(UserError, match="'suite' appears twice"):
        check_suite_file(path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(mutants({"small": small(seeds=[0], runs=[{"methods": ["NPO"], "optimizers": ["adamw"]}])}))
def test_a_spoiled_suite_fares_alike_as_a_file(tmp_path_factory: pytest.TempPathFactory, mutant) -> None:
    """Written out and read again it is valid or refused as before."""
    try:
        text = yaml.safe_dump(mutant[2], allow_unicode=False)
    except (yaml.YAMLError, ValueError):  # half a character, or a number of 5000 digits
        return
    path = tmp_path_factory.mktemp("file") / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        suite = load_suite(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert suite.run_table()
