"""What a cache raises; ``OutOfBlocks`` is the pool's (see ``pool.py``)."""


class CacheError(RuntimeError):
    """The cache was used out of order; the text says what it expected."""


class NotFinite(CacheError, FloatingPointError):
    """A key or value is NaN or larger than the format can hold; the step did not happen."""

    def __init__(self, name: str, layer: int, position: int, peak: float, limit: float) -> None:
        super().__init__(
            f"{name} of layer {layer} at position {position} reach {peak}, the cache's format "
            f"holds up to {limit:.4g}: the model or its inputs are broken; the step was dropped"
        )
