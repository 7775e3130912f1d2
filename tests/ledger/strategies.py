"""Hypothesis strategies for inputs and facts, made from the structs' own annotations."""

import types
from decimal import Decimal
from typing import Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

_PLAIN = {
    str: st.text(st.characters(codec="utf-8"), max_size=12),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode()),
    type(None): st.none(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False)
    | st.decimals(-(10**9), 10**9, places=8),
}


def of(hint):
    """Any value of a type that the events use."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.one_of([of(arg) for arg in args])
    if origin is tuple:
        return st.lists(of(args[0]), max_size=3).map(tuple)
    assert issubclass(hint, msgspec.Struct), hint
    return st.builds(hint, **{name: of(each) for name, each in get_type_hints(hint).items()})
