from collections.abc import Callable
from decimal import Decimal
from typing import Any, Self

class Shape:
    def __new__(
        cls,
        kind: str,
        fields: tuple[str, ...],
        decimals: tuple[str, ...],
        later: tuple[str, ...],
        plain: Callable[[Decimal], str],
        encode: Callable[[Any], bytes],
        /,
    ) -> Self: ...
    def row(self, fact: Any, head: tuple[Any, ...], lines: bytearray, /) -> tuple[Any, ...]: ...
