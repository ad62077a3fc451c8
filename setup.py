"""The wheel also holds what a checkout has beside the library: the workflow and the suites."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithWorkflow(build_py):
    """Everything else is said in pyproject.toml."""

    def run(self):
        super().run()
        if self.editable_mode:  # the checkout itself is used
            return
        package = Path(self.build_lib, "pipeline_lib")
        for name in ("workflow", "config"):
            shutil.rmtree(package / name, ignore_errors=True)
            shutil.copytree(name, package / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name in ("config.yaml", "environment.yml"):
            shutil.copy2(name, package / name)


setup(cmdclass={"build_py": WithWorkflow})
