from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
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

def take_step(
    shapes: Mapping[type[Any], Shape],
    named: AbstractSet[type[Any]],
    facts: tuple[Any, ...],
    place: tuple[str, int, int],
    lines: bytearray,
    rows: dict[type[Any], list[tuple[Any, ...]]],
    /,
) -> None: ...
