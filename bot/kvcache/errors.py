"""What a cache raises; ``OutOfBlocks`` is the pool's (see ``pool.py``)."""


class CacheError(RuntimeError):
    """The cache was used out of order; the text says what it expected."""


class NotFinite(CacheError, FloatingPointError):
    """A key or value is NaN or larger than the format can hold; the step did not happen."""
