"""What pyproject.toml cannot say: two top-level things travel inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithResources(build_py):
    """Puts config.yaml and migrations/ into the wheel, as bot/config.yaml and bot/migrations/."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "bot"
        shutil.copy2(ROOT / "config.yaml", target / "config.yaml")
        shutil.copytree(
            ROOT / "migrations",
            target / "migrations",
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )


setup(cmdclass={"build_py": BuildWithResources})
