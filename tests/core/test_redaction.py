"""Nothing that a user or a model wrote can act on the terminal that shows it."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.joblog import JobLog
from pipeline_lib.core.redaction import VisibleStream, listed, visible

HOSTILE = "x\x1b[2J\x1b]0;owned\x07\u202egnp.exe\x9b31m\x00\ud800\u2066"


@given(st.text())
def test_no_text_keeps_a_character_that_acts(text: str) -> None:
    acting = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not [c for c in visible(text) if c not in "\n\t" and unicodedata.category(c) in acting]
    assert not [c for c in visible(text, keep="") if unicodedata.category(c) in acting]
    assert visible(visible(text)) == visible(text)


def test_names_in_a_list_stay_on_its_line() -> None:
    assert listed(["a\nb", "\x1b[1m"]) == "a⟨U+000A⟩b, ⟨U+001B⟩[1m"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_errors_logs_and_commands_show_it_as_codes() -> None:
    assert str(UserError(HOSTILE)) == visible(HOSTILE)
    for make in (VisibleStream, JobLog):
        handle = io.StringIO()
        stream = make(handle)
        print(HOSTILE, file=stream)
        stream.flush()
        shown = handle.getvalue()
        assert "⟨U+202E⟩gnp.exe⟨U+009B⟩31m⟨U+0000⟩⟨U+D800⟩⟨U+2066⟩" in shown
        assert "\x1b" not in shown and "\x07" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "{}"],
        ["plan", "{}"],
        ["status", "{}"],
        ["track", "{}"],
        ["tofu-log", "--unlearned", "{}", "--retrained", "{}"],
        ["open-unlearning-log", "{}"],
        ["export-open-unlearning", "{}", "--manifest", "{}", "--out", "out"],
        ["validate", "suite.yaml", "--{}"],
    ],
)
def test_a_hostile_name_goes_through_every_command(
    arguments: list[str], tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also through the words of the parser of arguments itself."""
    monkeypatch.chdir(tmp_path)
    name = "a\x1b[31m\u202eb\x07"
    try:
        status = command.main([argument.format(name) for argument in arguments])
    except SystemExit as end:
        status = end.code
    seen = capsys.readouterr()
    assert status != 0
    assert "⟨U+001B⟩" in seen.err and "⟨U+202E⟩" in seen.err, seen.err
    assert not {"\x1b", "\u202e", "\x07"} & set(seen.out + seen.err)
