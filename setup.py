"""What pyproject.toml cannot say: resources that travel inside the package, and extensions
without which the package works too, only slower."""

import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
NATIVE = "bot/kvcache/native"
SLOWER = {
    "bot.kvcache.native._decode": "models decode in torch",
    "bot.venue.native._scan": "frames are read in Python",
    "bot.core.native._levels": "books are kept in Python",
    "bot.core.native._money": "orders are valued in Python",
    "bot.ledger.native._rows": "facts are written in Python",
}
"""What each extension's absence means."""
PLAIN_ARGS = ["-std=gnu11", "-O3", "-fvisibility=hidden"]
# plain, AVX2 and VNNI code lie in one binary and are chosen at run time. No fused multiply-adds:
# every instruction set gives the same bits
COMPILE_ARGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-Wno-psabi", "-fvisibility=hidden"]


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


class BuildOptional(build_ext):
    """Says what a failed build means; `optional` lets the installation go on."""

    def run(self) -> None:
        super().run()
        for name in (extension.name for extension in self.extensions):
            if not Path(self.get_ext_fullpath(name)).exists():
                self.warn(
                    f"{name} was not built (is there a C compiler?): {SLOWER[name]}, which gives "
                    "the same answers several times slower"
                )


setup(
    cmdclass={"build_py": BuildWithResources, "build_ext": BuildOptional},
    ext_modules=[
        Extension(
            "bot.kvcache.native._decode",
            [f"{NATIVE}/{name}.c" for name in ("module", "step", "team", "plain", "avx2", "vnni")],
            depends=[
                f"{NATIVE}/{name}.h"
                for name in (
                    "decode",
                    "lanes",
                    "rows",
                    "products",
                    "int8_any",
                    "window",
                    "attend_int8",
                    "attend_float",
                    "attend",
                )
            ],
            extra_compile_args=COMPILE_ARGS,
            extra_link_args=["-pthread"],
            optional=True,
        ),
        Extension(
            "bot.venue.native._scan",
            ["bot/venue/native/scan.c"],
            extra_compile_args=PLAIN_ARGS,
            optional=True,
        ),
        Extension(
            "bot.core.native._levels",
            ["bot/core/native/levels.c"],
            extra_compile_args=PLAIN_ARGS,
            optional=True,
        ),
        Extension(
            "bot.core.native._money",
            ["bot/core/native/money.c"],
            extra_compile_args=PLAIN_ARGS,
            optional=True,
        ),
        Extension(
            "bot.ledger.native._rows",
            ["bot/ledger/native/rows.c"],
            extra_compile_args=PLAIN_ARGS,
            optional=True,
        ),
    ],
)
