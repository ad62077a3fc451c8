import sys
from pathlib import Path

# The library lies beside workflow/, or around it where it is installed.
sys.path.insert(
    0, next(str(place) for place in Path(__file__).resolve().parents if (place / "pipeline_lib").is_dir())
)

from pipeline_lib.steps import fork_client, process


def plain(files):
    """Files by name: a path, or a list of paths."""
    return {name: file if isinstance(file, str) else list(file) for name, file in files.items()}


if __name__ == "__main__":  # a step may start processes that import this file
    fork_client.run(
        {
            "params": snakemake.params.job,
            "inputs": plain(snakemake.input),
            "outputs": plain(snakemake.output),
            "log": snakemake.log[0],
            "threads": snakemake.threads,
            "resources": {
                name: value for name, value in snakemake.resources.items() if name in process.RESOURCES
            },
        }
    )
