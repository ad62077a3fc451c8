"""What an estimate assumes of the device that a job runs on."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.study.resources import Resources

# Peaks in 1e12 operations a second: of a GPU in the class of an A100 (its data sheet: 312 in bf16, 19.5 in
# fp32), and of one thread of a server's CPU with matrix instructions for bf16.
GPU_TFLOPS = {"bf16": 312.0, "fp32": 19.5}
THREAD_TFLOPS = {"bf16": 0.5, "fp32": 0.1}
UTILISATION = 0.4  # share of the peak that matrix products of a few hundred tokens reach
GPU_BANDWIDTH = 1.5e12  # bytes a second, memory
CPU_BANDWIDTH = 1.0e10
HOST_BANDWIDTH = 2.0e10  # bytes a second, of a step in the machine's memory and on the way there
DISK_BANDWIDTH = 5.0e8
GPU_LAUNCH = 1.0e-3  # seconds a layer and pass: some 60 small kernels, whatever the batch size
CPU_LAUNCH = 1.0e-3
START_SECONDS = 15.0  # imports, reading the tokenizer and the records

# What a process holds before it loads a model: libraries, or a GPU's context, which torch does not count.
GPU_RUNTIME = 0.6e9
CPU_RUNTIME = 0.43e9
# On a CPU a process keeps some memory between freed blocks: 14 to 20 % of what training uses was measured,
# see docs/planning.md. On a GPU torch's count has no such part.
CPU_HEAP = 0.16
CPU_HEAP_FORWARD = 0.06  # where nothing has been freed yet


@dataclass(frozen=True)
class Device:
    """`kind`: "cuda" or "cpu". `memory`: bytes a job may use, None where the suite does not say.

    `limit`: bytes that no try of a job can exceed: a job that needs more is refused.
    """

    kind: str
    tflops: float | None  # given by the suite
    threads: int
    memory: float | None
    limit: float | None = None

    def whole(self, parts: dict[str, float]) -> dict[str, float]:
        """The parts that a job holds itself, and what this device adds to them."""
        if self.kind == "cuda":
            return {"runtime": GPU_RUNTIME, **parts}
        return {"runtime": CPU_RUNTIME, "heap": CPU_HEAP * sum(parts.values()), **parts}

    def seconds(self, operations: float, bytes_read: float, passes: float, compute: str) -> float:
        """Time of `passes` through a layer, with this many operations and bytes of weights read in all.

        `compute`: "auto" is counted as bf16 on a GPU, and as fp32 on a CPU, of which the suite does not say
        whether it multiplies bf16.
        """
        if compute == "auto":
            compute = "bf16" if self.kind == "cuda" else "fp32"
        if self.kind == "cuda":
            peak, bandwidth, launch = GPU_TFLOPS[compute], GPU_BANDWIDTH, GPU_LAUNCH
        else:
            peak, bandwidth, launch = THREAD_TFLOPS[compute] * self.threads, CPU_BANDWIDTH, CPU_LAUNCH
        rate = (self.tflops or peak) * 1e12 * UTILISATION
        return max(operations / rate, bytes_read / bandwidth) + passes * launch


def device_of(resources: Resources) -> Device:
    """Where the jobs of a suite will run, as far as the suite says: a GPU if it asks for one."""
    kind = resources.device
    if kind == "auto":
        kind = "cuda" if resources.gpus else "cpu"
    if kind == "cuda":
        memory = limit = None if resources.gpu_memory_gb is None else resources.gpu_memory_gb * 1e9
    else:
        most = resources.memory_limit_mb
        limit = None if most is None else most * 2.0**20
        asked = "memory_mb" in resources.model_fields_set
        memory = resources.memory_mb * 2.0**20 if asked else limit
    return Device(kind, resources.tflops, resources.threads, memory, limit)
