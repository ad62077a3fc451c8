"""`compute: auto` is bf16 where the machine multiplies it, and says what it found."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.training import compute
from pipeline_lib.training.compute import compute_of

CPU = torch.device("cpu")
PLAIN = (
    "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse avx2 avx512f avx512_vnni{}\nbugs\t\t: mds\n"
)
SOUGHT = "compute: auto looked for a CPU with avx512_bf16 or amx_bf16 in {} and found "


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """The file in which Linux describes the CPU, made up."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(compute, "CPU_FACTS", file)
    return file


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_what_a_suite_chooses_stays(setting):
    assert compute_of(setting, CPU) == (setting, None)


@pytest.mark.parametrize(
    ("flags", "chosen", "found"),
    [
        ("", "fp32", "neither"),
        (" avx512_bf16", "bf16", "avx512_bf16"),
        (" amx_bf16 amx_tile amx_int8", "bf16", "amx_bf16"),
        (" amx_bf16 avx512_bf16", "bf16", "avx512_bf16 and amx_bf16"),
        (" avx512_bf16x amx_tile", "fp32", "neither"),
    ],
)
def test_a_cpu_is_asked_for_its_instructions(facts, monkeypatch, flags, chosen, found):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    facts.write_text(PLAIN.format(flags))
    line = f"{SOUGHT.format(facts)}{found}; products are in {chosen}"
    assert compute_of("auto", CPU) == (chosen, line)


def test_only_the_flags_count(facts):
    facts.write_text(PLAIN.format("") + "model name\t: a name with amx_bf16 in it\n")
    assert compute_of("auto", CPU)[0] == "fp32"


def test_without_the_file_it_is_fp32(facts):
    assert compute_of("auto", CPU) == ("fp32", f"{SOUGHT.format(facts)}no such file; products are in fp32")


def test_instructions_that_torch_cannot_use_do_not_help(facts, monkeypatch):
    facts.write_text(PLAIN.format(" amx_bf16"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    chosen, line = compute_of("auto", CPU)
    assert chosen == "fp32" and "amx_bf16, but no oneDNN in torch" in line


@pytest.mark.parametrize(("fast", "chosen", "does"), [(True, "bf16", "does"), (False, "fp32", "does not")])
def test_a_gpu_is_asked_without_emulation(monkeypatch, fast, chosen, does):
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return fast

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert compute_of("auto", torch.device("cuda")) == (
        chosen,
        "compute: auto looked for a GPU that multiplies bf16 and found Some GPU, which "
        f"{does}; products are in {chosen}",
    )
    assert asked == [False]
