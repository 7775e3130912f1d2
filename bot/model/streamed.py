"""What a checkpoint says of every row of a sample, streamed through its cache as in a live run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace

from bot.kvcache import KVCacheManager
from bot.kvcache.layout import Layout
from bot.model.baselines import Forecast
from bot.model.checkpoint import Checkpoint
from bot.model.execution import execution
from bot.model.native import WeightDtype
from bot.model.samples import Sample
from bot.model.transformer import STEP_TOKENS, CausalTransformer


class Running(Struct, frozen=True):
    """How a model is run. ``window`` 0 is its own."""

    kind: str = "paged"
    kv_cache_dtype: str = "int8"
    weight_dtype: WeightDtype = "float32"
    window: int = 0
    threads: int = 1


def predict(
    checkpoint: Checkpoint,
    sample: Sample,
    running: Running,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Forecast:
    """A forecast a row: the numbers that a live forecaster gives, up to its tolerance."""
    used = windowed(checkpoint, running.window) if running.window else checkpoint
    config = used.card.config
    spec = config.cache_spec(
        running.kind, kv_cache_dtype=running.kv_cache_dtype, model=used.card.weights_sha256
    )
    layout = Layout(spec)
    budget = (spec.blocks_for(STEP_TOKENS) + 1) * layout.block_bytes
    cache = KVCacheManager(budget, slab_bytes=layout.block_bytes).anonymous(spec)
    model = execution(
        used.model, spec, decode="auto", weight_dtype=running.weight_dtype, threads=running.threads
    )
    heads = []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(sample.tokens), STEP_TOKENS):
            heads.append(model.step(part, cache))
            progress(cache.position, len(sample.tokens))
        outputs = used.model.outputs(torch.cat(heads).double())
    unit = sample.unit if config.volatility_scaled else np.ones(len(sample.unit))
    scale = unit[:, None] * np.array(config.return_scale)
    return Forecast(
        outputs.mean.numpy() * scale,
        torch.sigmoid(outputs.up_logit).numpy(),
        outputs.quantiles.numpy() * scale[:, :, None],
    )


def windowed(checkpoint: Checkpoint, window: int) -> Checkpoint:
    """The same weights behind a window of another length."""
    config = replace(checkpoint.card.config, window=window)
    model = CausalTransformer(config)
    model.load_state_dict(checkpoint.model.state_dict())
    model.requires_grad_(requires_grad=False)
    model.eval()
    return Checkpoint(replace(checkpoint.card, config=config), model)
