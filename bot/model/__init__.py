"""The room that predicts: causal transformers that read the market one token per event.

Importing it loads torch; a verb that needs no model does not import it.
"""

from bot.model.analyzer import ANALYZER, StreamingOrderBookAnalyzer, analyzer_config
from bot.model.benchmark import benchmark_kv_cache
from bot.model.checkpoint import (
    Card,
    Checkpoint,
    CheckpointError,
    at_interval,
    load,
    save,
    seeded,
)
from bot.model.chunked import ChunkedStream
from bot.model.execution import Execution, execution
from bot.model.forecast import Forecaster, TokenStream, deviation
from bot.model.predictor import PREDICTOR, RealTimePricePredictor, predictor_config
from bot.model.tokens import BOOK_TOKENS, CANDLE_TOKENS
from bot.model.trader import KVCacheTrader, trader_config
from bot.model.worker import Worker, WorkerCounters

__all__ = [
    "ANALYZER",
    "BOOK_TOKENS",
    "CANDLE_TOKENS",
    "PREDICTOR",
    "Card",
    "Checkpoint",
    "CheckpointError",
    "ChunkedStream",
    "Execution",
    "Forecaster",
    "KVCacheTrader",
    "RealTimePricePredictor",
    "StreamingOrderBookAnalyzer",
    "TokenStream",
    "Worker",
    "WorkerCounters",
    "analyzer_config",
    "at_interval",
    "benchmark_kv_cache",
    "deviation",
    "execution",
    "load",
    "predictor_config",
    "save",
    "seeded",
    "trader_config",
]
