"""A copy of the repository with a server in it, where one mutant after the other is written and tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.mutation.sites import Mutant
from tests.paths import REPO

HEAVY = (  # imported once; pipeline_lib and the tests never are, because they are what changes
    *("numpy", "pandas", "scipy.stats", "scipy.optimize", "matplotlib.pyplot", "yaml", "jinja2", "tqdm"),
    *("pydantic", "hypothesis", "_pytest.assertion.rewrite", "packaging.requirements", "requests"),
    *(
        "torch",
        "torch.nn.functional",
        "torch.func",
        "torch.distributed",
        "torch.utils.checkpoint",
        "safetensors.torch",
    ),
    *(
        "transformers",
        "tokenizers",
        "transformers.generation",
        "transformers.modeling_utils",
        "huggingface_hub",
    ),
    *(
        f"transformers.models.{name}.modeling_{name}"
        for name in ("llama", "gpt2", "gpt_neox", "opt", "phi", "qwen2")
    ),
    *(
        "peft",
        "accelerate",
        "rouge_score.rouge_scorer",
        "sacrebleu",
        "pyarrow.parquet",
        "torch._dynamo",
        "gguf",
    ),
    *("sklearn.metrics", "curvlinops", "transformers.models.mistral.modeling_mistral"),
)
DATES = count(1)  # seconds added to a mutant's date, so that no two share compiled code


def cloned(folder: Path) -> Path:
    """The last commit of the repository in `folder`: what is not committed is not tried."""
    command = ["git", "clone", "--quiet", "--shared", str(REPO), str(folder)]
    subprocess.run(command, check=True)
    return folder


class Copy:
    """A copy in `folder`, and the server that runs its tests."""

    def __init__(self, folder: Path, heavy: Sequence[str] = HEAVY) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(folder)}
        data = REPO.parent / "shared" / "data"
        if data.is_dir():
            environment.setdefault("PIPELINE_DATA", str(data))
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), str(folder), *heavy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def run(
        self, batches: list[list[str]], expected: Mapping[str, float] | None = None, record: bool = False
    ) -> dict[str, Any]:
        """What `server.py` answers."""
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(
            json.dumps({"batches": batches, "expected": expected or {}, "record": record}) + "\n"
        )
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server of {self.folder} ended with {self.server.wait()}")
        return dict(json.loads(answer))

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Inside, the file has its fault; its date keeps the compiled forms of both versions apart."""
        path = self.folder / mutant.site.file
        content, date = path.read_bytes(), path.stat().st_mtime_ns
        path.write_bytes(mutant.applied(content))
        later = date + next(DATES) * 1_000_000_000
        os.utime(path, ns=(later, later))
        try:
            yield
        finally:
            path.write_bytes(content)
            os.utime(path, ns=(date, date))

    def close(self) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait()
