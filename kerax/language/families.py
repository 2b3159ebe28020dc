"""The families of language models: what their `config.json` says in kerax's terms, and what they call their weights.

One entry of `FAMILIES` for each `model_type`. `modules` has a line for each module of theirs that has weights, `{}`
standing for the number of a block, and the layer, or several that lie side by side in it, of `Decoder` or `Encoder`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kerax.errors import suggest
from kerax.language.models import Decoder, Encoder
from kerax.layers import (
    DecoderBlock,
    Dense,
    EncoderBlock,
    LayerNormalization,
    RMSNormalization,
    RotaryEmbedding,
)

Modules = dict[str, str | tuple[str, ...]]
ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_fast": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
}


class Family(NamedTuple):
    """How one `model_type` is read and written.

    Attributes:
        make: The model of a `Config`.
        modules: Their modules with weights, and kerax's layers.
        prefix: What the names of modules begin with, unless the file is of the model without a head.
        is_transposed: Whether matrices are stored as `(outputs, inputs)`.
        recomputed: Ends of the names of tensors that some files have and that say nothing new.
    """

    make: Callable[["Config"], Any]
    modules: Modules
    prefix: str = "model."
    is_transposed: bool = True
    recomputed: tuple[str, ...] = ("rotary_emb.inv_freq",)


class Config:
    """The fields of a `config.json`, with one error for those that are missing.

    Args:
        fields: The object in the file.
        who: What error messages begin with.
        policy, in_blocks: Dtype policies of the layers, and of those in the blocks.
    """

    def __init__(self, fields: dict, who: str, policy: Any, in_blocks: Any):
        self.fields, self.who, self.policy, self.in_blocks = fields, who, policy, in_blocks

    def __getitem__(self, name: str) -> Any:
        if self.fields.get(name) is None:
            raise ValueError(f"{self.who}: config.json of a {self.fields.get('model_type')!r} needs {name!r}.")
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or the default where it is missing or null."""
        found = self.fields.get(name)
        return default if found is None else found

    def activation(self, default: str, *names: str) -> str:
        """The activation that the first of the fields there is says, under kerax's name."""
        found = next((self.fields[name] for name in names if self.fields.get(name)), default)
        if found not in ACTIVATIONS:
            raise ValueError(f"{self.who}: activation {found!r} is not one of {tuple(ACTIVATIONS)}.")
        return ACTIVATIONS[found]

    @property
    def head_dim(self) -> int:
        """Size of a head."""
        return self.get("head_dim") or self["hidden_size"] // self["num_attention_heads"]


def family_of(config: dict, who: str) -> Family:
    """The family that a config's `model_type` names. Raises `ValueError` if it is none of `FAMILIES`."""
    name = config.get("model_type")
    if name not in FAMILIES:
        raise ValueError(
            f"{who}: the architecture {name!r} is not known. Known: {', '.join(FAMILIES)}.{suggest(name, FAMILIES)}"
        )
    return FAMILIES[name]


# Decoders.


def _rotary(config: Config, kind: str | None) -> RotaryEmbedding:
    """The rotary positions of layers of a kind, in the older or the newer form of configs."""
    given = config.get("rope_parameters")
    if given is None:
        given = dict(config.get("rope_scaling", {}), rope_theta=config.get("rope_theta", 10000.0))
        if kind == "sliding_attention" and config.get("rope_local_base_freq"):
            given = {"rope_theta": config["rope_local_base_freq"]}
    elif kind in given:
        given = given[kind]
    scaling, share = None, given.get("partial_rotary_factor") or config.get("partial_rotary_factor", 1.0)
    if given.get("rope_type", given.get("type", "default")) != "default":
        longest = config.get("max_position_embeddings")
        known = {"max_position_embeddings": longest, "original_max_position_embeddings": longest}
        own = {name: config.get(name) for name in known if config.get(name) is not None}
        scaling = known | own | {name: value for name, value in given.items() if value is not None}
    size = None if share == 1.0 else int(config.head_dim * share)
    return RotaryEmbedding(given.get("rope_theta", 10000.0), scaling=scaling, rotary_dim=size, dtype=config.policy)


def _kinds(config: Config, slides: Callable[[int], bool]) -> list[str]:
    """Whether each layer's attention slides: as `layer_types` says, else as its index does."""
    names = {True: "sliding_attention", False: "full_attention"}
    found = config.get("layer_types") or [names[slides(index)] for index in range(config["num_hidden_layers"])]
    unknown = [kind for kind in found if kind not in names.values()]
    if unknown:
        raise ValueError(f"{config.who}: `layer_types` may be {tuple(names.values())}. Got {unknown[0]!r}.")
    return found


def _norm(config: Config, axis: Any = -1, offset: float | None = None) -> RMSNormalization:
    return RMSNormalization(axis, config.get("rms_norm_eps", 1e-6), offset=offset, dtype=config.policy)


def _decoder(
    config: Config, kinds: list[str], offset=None, is_tied=False, activation="silu", model: Any = None, **block: Any
) -> Decoder:
    """What all families with rotary positions share; `model` and `block` are what is special in one and its blocks."""
    turned = {kind: _rotary(config, kind) for kind in set(kinds)}
    biases = {"use_bias": config.get("attention_bias", False), "use_feedforward_bias": config.get("mlp_bias", False)}
    blocks = [
        DecoderBlock(
            config["num_attention_heads"],
            config.get("num_key_value_heads"),
            config.head_dim,
            config["intermediate_size"],
            config.activation(activation, "hidden_activation", "hidden_act"),
            normalization=_norm(config, offset=offset),
            rotary=turned[kind],
            sliding_window=config.get("sliding_window") if kind == "sliding_attention" else None,
            dtype=config.in_blocks,
            **(biases | block),
        )
        for kind in kinds
    ]
    return Decoder(
        config["vocab_size"],
        config["hidden_size"],
        blocks,
        _norm(config, offset=offset),
        config.get("tie_word_embeddings", is_tied),
        source=config.fields,
        dtype=config.policy,
        **(model or {}),
    )


def _llama(config: Config):
    return _decoder(config, _kinds(config, lambda _: False))


def _mistral(config: Config):
    slides = config.get("sliding_window") is not None
    return _decoder(config, _kinds(config, lambda _: slides))


def _qwen_kinds(config: Config) -> list[str]:
    slides, first = config.get("use_sliding_window", False), config.get("max_window_layers", 28)
    return _kinds(config, lambda index: slides and index >= first)


def _qwen2(config: Config):
    return _decoder(config, _qwen_kinds(config), use_bias=True, use_output_bias=False)


def _qwen3(config: Config):
    return _decoder(config, _qwen_kinds(config), query_key_normalization=_norm(config))


def _olmo2(config: Config):
    over_all_heads = _norm(config, (-2, -1))
    norms = {"query_key_normalization": over_all_heads, "pre_norms": False, "post_norms": True}
    return _decoder(config, _kinds(config, lambda _: False), **norms)


def _gemma(config: Config, kinds: list[str], **block: Any):
    block |= {"post_norms": True, "scale": config.get("query_pre_attn_scalar", 256) ** -0.5}
    block["logit_soft_cap"] = config.get("attn_logit_softcapping")
    cap = config.get("final_logit_softcapping")
    model = {"embedding_scale": config["hidden_size"] ** 0.5, "logit_soft_cap": cap}
    return _decoder(config, kinds, 1.0, True, "gelu_pytorch_tanh", model, **block)


def _gemma2(config: Config):
    return _gemma(config, _kinds(config, lambda index: index % 2 == 0))


def _gemma3(config: Config):
    every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern", 6)
    kinds = _kinds(config, lambda index: (index + 1) % every != 0)
    return _gemma(config, kinds, query_key_normalization=_norm(config, offset=1.0))


def _gpt2(config: Config):
    if config.get("scale_attn_by_inverse_layer_idx", False):
        raise ValueError(f"{config.who}: `scale_attn_by_inverse_layer_idx` of GPT-2 is not supported.")
    norm = LayerNormalization(epsilon=config.get("layer_norm_epsilon", 1e-5), dtype=config.policy)
    blocks = [
        DecoderBlock(
            config["n_head"],
            intermediate_dim=config.get("n_inner"),
            activation=config.activation("gelu_new", "activation_function"),
            gated=False,
            normalization=norm,
            use_bias=True,
            scale=None if config.get("scale_attn_weights", True) else 1.0,
            dropout=config.get("resid_pdrop", 0.0),
            dtype=config.in_blocks,
        )
        for _ in range(config["n_layer"])
    ]
    return Decoder(
        config["vocab_size"],
        config["n_embd"],
        blocks,
        norm,
        config.get("tie_word_embeddings", True),
        num_positions=config["n_positions"],
        dropout=config.get("embd_pdrop", 0.0),
        source=config.fields,
        dtype=config.policy,
    )


# Encoders.


def _roberta(config: Config):
    pad = config.get("pad_token_id", 1)
    return _encoder(config, pad_id=pad, first_position=pad + 1)


def _encoder(config: Config, **options: Any):
    if config.get("is_decoder", False) or config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"{config.who}: only encoders with absolute positions are supported.")
    epsilon, activation = config.get("layer_norm_eps", 1e-12), config.activation("gelu", "hidden_act")
    blocks = [
        EncoderBlock(
            config["num_attention_heads"],
            config["intermediate_size"],
            activation=activation,
            normalization_epsilon=epsilon,
            dropout=config.get("hidden_dropout_prob", 0.0),
            dtype=config.in_blocks,
        )
        for _ in range(config["num_hidden_layers"])
    ]
    size, norms = config["hidden_size"], [LayerNormalization(epsilon=epsilon, dtype=config.policy) for _ in range(2)]
    is_masked = str(config.get("architectures", [""])[0]).endswith("ForMaskedLM")
    return Encoder(
        config["vocab_size"],
        size,
        blocks,
        norms[0],
        config["max_position_embeddings"],
        num_segments=config.get("type_vocab_size", 2),
        use_pooler=not is_masked,
        head=[Dense(size, activation, dtype=config.policy), norms[1]] if is_masked else None,
        dropout=config.get("hidden_dropout_prob", 0.0),
        source=config.fields,
        dtype=config.policy,
        **options,
    )


# What they call their weights.


def _in_blocks(start: str, modules: Mapping[str, str | tuple[str, ...]]) -> Modules:
    return {
        f"{start}.{{}}.{name}": tuple(
            f"blocks/{{}}/{path}" for path in (paths if isinstance(paths, tuple) else (paths,))
        )
        for name, paths in modules.items()
    }


_QKV = tuple(f"attention/{name}_dense" for name in ("query", "key", "value"))
_ENDS: Modules = {"embed_tokens": "token_embedding", "norm": "normalization", "lm_head": "token_embedding/reverse"}
_ATTENTION: Modules = {f"self_attn.{name}_proj": path for name, path in zip("qkv", _QKV, strict=True)}
_ATTENTION |= {"self_attn.o_proj": "attention/output_dense"}
_ATTENTION |= {f"self_attn.{name[0]}_norm": f"attention/{name}_norm" for name in ("query", "key")}
_GATED: Modules = {f"mlp.{name}_proj": f"feedforward/{name}_dense" for name in ("gate", "up", "down")}
_BEFORE: Modules = {"input_layernorm": "attention_norm", "post_attention_layernorm": "feedforward_norm"}
_AFTER: Modules = {
    "post_attention_layernorm": "attention_post_norm",
    "post_feedforward_layernorm": "feedforward_post_norm",
}
_BOTH: Modules = {"input_layernorm": "attention_norm", "pre_feedforward_layernorm": "feedforward_norm"} | _AFTER
_FUSED: Modules = {
    "self_attn.qkv_proj": _QKV,
    "self_attn.o_proj": "attention/output_dense",
    "mlp.gate_up_proj": ("feedforward/gate_dense", "feedforward/up_dense"),
    "mlp.down_proj": "feedforward/down_dense",
}
_LLAMA = _ENDS | _in_blocks("layers", _ATTENTION | _GATED | _BEFORE)
_GEMMA = _ENDS | _in_blocks("layers", _ATTENTION | _GATED | _BOTH)
_GPT2: Modules = {
    "wte": "token_embedding",
    "wpe": "position_embedding",
    "ln_f": "normalization",
    "lm_head": "token_embedding/reverse",
} | _in_blocks(
    "h",
    {
        "ln_1": "attention_norm",
        "attn.c_attn": _QKV,
        "attn.c_proj": "attention/output_dense",
        "ln_2": "feedforward_norm",
        "mlp.c_fc": "feedforward/up_dense",
        "mlp.c_proj": "feedforward/down_dense",
    },
)
_BERT: Modules = {
    "embeddings.word_embeddings": "token_embedding",
    "embeddings.position_embeddings": "position_embedding",
    "embeddings.token_type_embeddings": "segment_embedding",
    "embeddings.LayerNorm": "normalization",
    "pooler.dense": "pooler",
} | _in_blocks(
    "encoder.layer",
    {f"attention.self.{name}": f"attention/{name}_dense" for name in ("query", "key", "value")}
    | {
        "attention.output.dense": "attention/output_dense",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "feedforward/up_dense",
        "output.dense": "feedforward/down_dense",
        "output.LayerNorm": "feedforward_norm",
    },
)
_BERT_HEAD: Modules = {
    "cls.predictions": "logits",
    "cls.predictions.transform.dense": "head/0",
    "cls.predictions.transform.LayerNorm": "head/1",
}
_ROBERTA_HEAD: Modules = {"lm_head": "logits", "lm_head.dense": "head/0", "lm_head.layer_norm": "head/1"}
_BERT_COPIES = ("embeddings.position_ids", "predictions.decoder.weight", "predictions.decoder.bias")
_ROBERTA_COPIES = ("embeddings.position_ids", "lm_head.decoder.weight", "lm_head.decoder.bias")

HEADS = ("lm_head", "cls.")
"""What the names of modules begin with that lie beside the model proper, whose names have the family's prefix."""
FAMILIES = {
    "llama": Family(_llama, _LLAMA),
    "mistral": Family(_mistral, _LLAMA),
    "qwen2": Family(_qwen2, _LLAMA),
    "qwen3": Family(_qwen3, _LLAMA),
    "gemma2": Family(_gemma2, _GEMMA),
    "gemma3_text": Family(_gemma3, _GEMMA),
    "phi3": Family(_mistral, _ENDS | _in_blocks("layers", _FUSED | _BEFORE)),
    "olmo2": Family(_olmo2, _ENDS | _in_blocks("layers", _ATTENTION | _GATED | _AFTER)),
    "gpt2": Family(_gpt2, _GPT2, "transformer.", False, ("attn.bias", "attn.masked_bias")),
    "bert": Family(_encoder, _BERT | _BERT_HEAD, "bert.", recomputed=_BERT_COPIES),
    "roberta": Family(_roberta, _BERT | _ROBERTA_HEAD, "roberta.", recomputed=_ROBERTA_COPIES),
}
