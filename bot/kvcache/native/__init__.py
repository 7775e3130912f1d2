"""The native decode step: what the C extension ``_decode`` offers, and whether it is there.

The extension is optional: it is built where there is a C compiler. What it knows of a model is a
shape and addresses of packed weights, which ``bot.model.native`` makes; what it knows of a cache is
in ``step.py``.
"""

from __future__ import annotations

import os

try:
    from bot.kvcache.native import _decode
except ImportError as error:
    _missing: ImportError | None = error
    _isas: tuple[str, ...] = ()
else:
    _missing = None
    _isas = tuple(_decode.isas())

FORCED_ISA = "KVTRADER_ISA"
"""The environment variable that forces an instruction set, for tests and comparisons."""


class NativeUnavailable(RuntimeError):
    """The extension was not built, or does not know the instruction set; the text says which."""


def available() -> bool:
    """Whether the extension was built and can be loaded."""
    return _missing is None


def require() -> None:
    """Raise NativeUnavailable unless ``available``."""
    if _missing is not None:
        raise NativeUnavailable(
            f"the native decoder cannot be loaded ({_missing}): install with a C compiler, or set "
            "models.decode to torch"
        ) from _missing


def isas() -> tuple[str, ...]:
    """Instruction sets of this machine, the best first; empty without the extension."""
    return _isas


def isa() -> str:
    """The instruction set that a decoder uses: the best, or the one in ``KVTRADER_ISA``.

    Raises NativeUnavailable.
    """
    require()
    forced = os.environ.get(FORCED_ISA)
    if forced is None:
        return _isas[0]
    if forced not in _isas:
        raise NativeUnavailable(f"{FORCED_ISA}={forced} is not one of {', '.join(_isas)}")
    return forced
