"""Tiny random checkpoints of each family, as `transformers` writes them."""

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # the default would make nearly equal logits
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_ENCODER = {"num_key_value_heads": None, "type_vocab_size": 2, "hidden_act": "gelu"}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": 99, "initializer_range": 0.2}

# {name: (class of config, class of model, what differs from SIZES)}
FAMILIES = {
    "llama2": ("LlamaConfig", "LlamaForCausalLM", {"num_key_value_heads": 4}),
    "llama3": ("LlamaConfig", "LlamaForCausalLM", {"rope_parameters": LLAMA_3, "head_dim": 16}),
    "llama_tied": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "mistral": ("MistralConfig", "MistralForCausalLM", {"sliding_window": 5, "head_dim": 12}),
    "qwen2": (
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 4, "attn_logit_softcapping": 2.0},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 4, "num_hidden_layers": 3}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"partial_rotary_factor": 0.5, "sliding_window": 6}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", {}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", _GPT2),
    "bert": ("BertConfig", "BertModel", _ENCODER),
    "bert_masked": ("BertConfig", "BertForMaskedLM", _ENCODER),
    "roberta": ("RobertaConfig", "RobertaModel", _ENCODER | {"max_position_embeddings": 130, "type_vocab_size": 1}),
}
_FAR = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
_EACH = {"short_factor": [1.0, 1.1], "long_factor": [2.0, 3.0], "partial_rotary_factor": 0.5}
# Ways to reach beyond the length of the training, by the family that is tried with them.
SCALINGS = {
    "linear": ("llama3", {"rope_parameters": {"rope_type": "linear", **_FAR}}),
    "dynamic": ("llama3", {"rope_parameters": {"rope_type": "dynamic", **_FAR}, "max_position_embeddings": 16}),
    "yarn": ("llama3", {"rope_parameters": {"rope_type": "yarn", **_FAR}}),
    "longrope": (
        "phi3",
        {"rope_parameters": {"rope_type": "longrope", **_FAR, **_EACH}, "original_max_position_embeddings": 16},
    ),
}
DECODERS = [name for name, (_, model, _) in FAMILIES.items() if "Bert" not in model and "berta" not in model]
ENCODERS = [name for name in FAMILIES if name not in DECODERS]


def make(name, folder, dtype="float32", max_shard_size="20KB", **more):
    """Writes the checkpoint of that name, its config with `more`, and returns the model of `transformers`, whose
    weights are all random."""
    import torch
    import transformers

    config_name, model_name, changes = FAMILIES[name]
    config = getattr(transformers, config_name)(**({} if name == "gpt2" else SIZES) | changes | more)
    torch.manual_seed(0)
    model = getattr(transformers, model_name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, which start as zeros and ones
            parameter.add_(0.1 * torch.randn_like(parameter))
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model
