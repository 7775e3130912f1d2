"""Kinds by name."""

import pytest

from bot.kvcache import (
    KINDS,
    CacheSpec,
    KVCache,
    PagedKVCache,
    PrefixCache,
    QuantizedKVCache,
    SelectiveKVCache,
    WindowCache,
    cache_spec,
)

SHAPE = {"layers": 2, "kv_heads": 2, "head_dim": 8, "window": 512}


def test_words_compose() -> None:
    assert cache_spec("quantized+paged+prefix", **SHAPE, sinks=4, model="m") == CacheSpec(
        2, 2, 8, 512, kv_cache_dtype="int8", sinks=4, prefix="m"
    )
    assert cache_spec("quantized+standard", **SHAPE, kv_cache_dtype="k8v4") == CacheSpec(
        2, 2, 8, 512, kv_cache_dtype="k8v4", contiguous=True
    )
    assert cache_spec("selective", **SHAPE, kv_cache_dtype="int8") == CacheSpec(
        2, 2, 8, 512, kv_cache_dtype="int8", retention="attention_score", retain=128
    )
    assert cache_spec("paged", **SHAPE).kv_cache_dtype == "float32"


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_stands_alone(kind: str) -> None:
    assert isinstance(cache_spec(kind, **SHAPE, model="m"), CacheSpec)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("radix", {}, "'radix' in 'radix' is not one of standard, paged"),
        ("", {}, "'' in '' is not one of"),
        ("standard+paged", {}, "cannot be in blocks too"),
        ("standard+prefix", {"model": "m"}, "cannot be in blocks too"),
        ("quantized", {"kv_cache_dtype": "float32"}, "'float32', not one of fp8_e4m3"),
        ("paged", {"retain": 64}, "has no retention; say selective"),
        ("prefix", {}, "needs the name of the model"),
        ("selective+prefix", {"model": "m"}, "cannot be shared"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    kind: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cache_spec(kind, **SHAPE, **options)


def test_the_literatures_names_are_the_one_cache() -> None:
    named = {
        "standard": KVCache(2, 2, 8, 512),
        "paged": PagedKVCache(2, 2, 8, 512),
        "quantized": QuantizedKVCache(2, 2, 8, 512),
        "selective": SelectiveKVCache(2, 2, 8, 512, retain=128),
        "prefix": PrefixCache(2, 2, 8, 512, model="m"),
    }
    for kind, cache in named.items():
        assert isinstance(cache, WindowCache)
        assert cache.spec == cache_spec(kind, **SHAPE, model="m")
        assert (len(cache), cache.nbytes, cache.position) == (0, 0, 0)
