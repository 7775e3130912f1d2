"""The models of transformers as an oracle: our weights in one of theirs, our cache in another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bot.kvcache import WindowCache, cache_spec, merge_sink
from bot.kvcache.manager import KVCacheManager
from bot.model.transformer import CausalTransformer
from tests.model.streaming import WINDOW, build, cache_for, inputs, stream

transformers = pytest.importorskip(
    "transformers", reason="the peers of the `bench` extra are not installed"
)

# what transformers imports on its way, where more peers are installed, is not ours to mend
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TOKENS = 3 * WINDOW + 5


class PlainMlp(nn.Module):
    """Our MLP without a gate, where theirs has one."""

    def __init__(self, up: torch.Tensor, down: torch.Tensor) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(up), nn.Parameter(down)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.gelu(nn.functional.linear(x, self.up), approximate="tanh")
        return nn.functional.linear(hidden, self.down)


def qwen3_with_our_weights(model: CausalTransformer) -> nn.Module:
    """Qwen3 has RMSNorm, RoPE, QK-norm, grouped heads and a sliding window, as we have."""
    c = model.config
    config = transformers.Qwen3Config(
        vocab_size=8, hidden_size=c.width, intermediate_size=c.hidden, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads, head_dim=c.head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base}, rms_norm_eps=1e-6,
        use_sliding_window=True, sliding_window=c.window, max_window_layers=0,
        layer_types=["sliding_attention"] * c.layers, attn_implementation="eager",
    )  # fmt: skip
    theirs = transformers.Qwen3Model(config).to(torch.float64).eval()
    weights = {"norm.weight": model.final_norm, "embed_tokens.weight": torch.zeros(8, c.width)}
    for i, block in enumerate(model.blocks):
        q, k, v = block.qkv.split([c.heads * c.head_dim] + [c.kv_heads * c.head_dim] * 2)
        ours = {
            "self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
            "self_attn.o_proj": block.out, "self_attn.q_norm": block.q_norm,
            "self_attn.k_norm": block.k_norm, "input_layernorm": block.attention_norm,
            "post_attention_layernorm": block.mlp_norm,
        }  # fmt: skip
        weights |= {f"layers.{i}.{name}.weight": w for name, w in ours.items()}
        theirs.layers[i].mlp = PlainMlp(block.up, block.down)
        weights |= {f"layers.{i}.mlp.up": block.up, f"layers.{i}.mlp.down": block.down}
    theirs.load_state_dict(weights)
    return theirs.requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def ours() -> CausalTransformer:
    model = build(torch.float64)
    for index, parameter in enumerate(model.parameters()):
        if parameter.dim() == 1:  # norms of exactly 1 would hide a norm in the wrong place
            generator = torch.Generator().manual_seed(index)
            parameter.add_(torch.randn(parameter.shape, generator=generator).double() * 0.2)
    for block in model.blocks:
        block.sink.fill_(-torch.inf)  # theirs has none
    return model


@pytest.mark.parametrize("kind", ["standard", "paged"])
def test_streaming_our_weights_is_their_forward(ours: CausalTransformer, kind: str) -> None:
    theirs = qwen3_with_our_weights(ours)
    x = inputs(TOKENS, torch.float64)
    embedded = nn.functional.linear(x, ours.embed, ours.embed_bias)
    hidden = theirs(inputs_embeds=embedded[None], use_cache=False).last_hidden_state[0]
    expected = nn.functional.linear(hidden, ours.head, ours.head_bias)
    # their phases are float32: 1e-6 of a turn at these positions
    assert (stream(ours, x, cache_for(ours, kind, "float64")) - expected).abs().max() < 1e-5
    assert (ours(x) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("family", ["Llama", "Mistral"])
@pytest.mark.parametrize("kind", ["standard", "paged"])
def test_their_model_over_our_cache_is_their_model(family: str, kind: str) -> None:
    shape = {
        "vocab_size": 31, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    window = 10_000 if family == "Llama" else WINDOW
    if family == "Mistral":
        shape["sliding_window"] = WINDOW
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**shape, attn_implementation="eager")
    model = getattr(transformers, f"{family}ForCausalLM")(config).double().eval()
    spec = cache_spec(
        kind, layers=2, kv_heads=2, head_dim=8, window=window, kv_cache_dtype="float64"
    )
    cache: WindowCache = KVCacheManager(1 << 24).anonymous(spec)

    def attention(module, q, k, v, mask, **_):
        rows = [part[0].transpose(0, 1) for part in (q, k, v)]  # [1, H, T, D] -> [T, H, D]
        cache.append(module.layer_idx, rows[1], rows[2])
        out, _ = cache.attend(module.layer_idx, rows[0])
        return out[None], None

    tokens = torch.randint(31, (1, TOKENS), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = model(tokens, use_cache=False).logits[0]
        transformers.AttentionInterface.register("window_cache", attention)
        model.set_attn_implementation("window_cache")
        got = [
            model(tokens[:, t : t + 1], use_cache=False, position_ids=torch.tensor([[t]])).logits[0]
            for t in range(TOKENS)
        ]
    assert (torch.cat(got) - expected).abs().max() < 1e-6


def test_a_learned_sink_is_that_of_gpt_oss() -> None:
    module = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    generator = torch.Generator().manual_seed(5)
    q, k, v = (
        torch.randn(1, heads, TOKENS, 8, generator=generator, dtype=torch.float64)
        for heads in (4, 2, 2)
    )
    sink = torch.tensor([-1.0, 0.5, 2.0, 4.0], dtype=torch.float64)
    hidden = ~torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril().triu(1 - WINDOW)
    mask = torch.zeros(1, 1, TOKENS, TOKENS, dtype=torch.float64).masked_fill(hidden, -1e30)
    attention = nn.Module()
    attention.sinks, attention.num_key_value_groups = sink, 2
    attention.eval()
    expected, _ = module.eager_attention_forward(attention, q, k, v, mask, scaling=8**-0.5)
    spec = cache_spec("paged", layers=1, kv_heads=2, head_dim=8, window=WINDOW,
                      kv_cache_dtype="float64")  # fmt: skip
    cache = KVCacheManager(1 << 20).anonymous(spec)
    for t in range(TOKENS):
        one = slice(t, t + 1)
        cache.append(0, *(part[0, :, one].transpose(0, 1) for part in (k, v)))
        out, lse = cache.attend(0, q[0, :, one].transpose(0, 1))
        assert (merge_sink(out, lse, sink) - expected[0, one]).abs().max() < 1e-12
