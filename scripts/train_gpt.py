"""Trains a GPT on text or made-up tokens, on one device or many: `train_gpt.py configs/gpt2_124m_gpu.yaml`.

Any setting may follow on the command line: `--steps 100 --batch_size 32`.
"""

import os
from pathlib import Path

import numpy as np
from at_scale import DEVICES, distribute, read_settings, train

import kerax
from kerax import layers, ops, optimizers

SETTINGS = {
    "vocabulary": (50304, "number of tokens; a multiple of 128 suits matrix units"),
    "length": (1024, "tokens of a row"),
    "width": (768, "features of a token"),
    "heads": (12, "attention heads"),
    "layers": (12, "blocks"),
    "dropout": (0.0, "fraction of activations to drop"),
    "bias": (True, "whether projections and normalizations have biases"),
    "tied": (True, "whether logits are products with the table of embeddings"),
    "stacked": (False, "whether one program is looped over all blocks: compiles as fast for 48 as for one"),
    "keep": ("everything", "with 'stacked', what is kept for the gradient: 'everything', 'dots' or 'nothing'"),
    "dtype": ("mixed_bfloat16", "dtype policy"),
    "data": ("synthetic", "a text file or its URL (of characters), a .npy file of tokens, or 'synthetic'"),
    "batch_size": (64, "rows per step, on all devices together"),
    "micro_batches": (1, "parts that a step's rows are worked off in"),
    "steps": (1000, "steps of training"),
    "report_every": (20, "steps between two lines of output"),
    "learning_rate": (6e-4, "its peak"),
    "warmup": (100, "steps until the peak"),
    "weight_decay": (0.1, "of AdamW, for matrices only"),
    "clip_norm": (1.0, "largest norm of the gradient of all weights"),
    "run_dir": ("", "folder to save the run to and to go on from"),
    "seed": (0, "of weights, order and dropout"),
}


@kerax.saving.register_keras_serializable("gpt")
class Block(layers.Layer):
    """A Transformer block with normalization first: causal attention and a GELU network, each added to its input.

    Args:
        width: Features of the inputs `(batch, positions, width)` and of the outputs.
        heads: Number of attention heads, a divisor of `width`.
        dropout: Fraction of each branch's outputs to drop while training.
        bias: Whether projections and normalizations have biases.
        depth: Number of blocks of the model: what is added to the residual stream starts smaller in deeper ones.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
    """

    def __init__(self, width, heads, dropout=0.0, bias=True, depth=1, **kwargs):
        super().__init__(**kwargs)
        small = kerax.initializers.RandomNormal(stddev=0.02)
        smaller = kerax.initializers.RandomNormal(stddev=0.02 / (2 * depth) ** 0.5)
        options = {"use_bias": bias, "dtype": self.dtype_policy}
        norm = {"epsilon": 1e-5, "center": bias, "dtype": self.dtype_policy}
        self.attention_norm = layers.LayerNormalization(**norm)
        self.attention = layers.MultiHeadAttention(heads, width // heads, kernel_initializer=small, **options)
        self.network_norm = layers.LayerNormalization(**norm)
        self.expand = layers.Dense(4 * width, kernel_initializer=small, **options)
        self.contract = layers.Dense(width, kernel_initializer=smaller, **options)
        self.drop = layers.Dropout(dropout)

    def call(self, inputs):
        normed = self.attention_norm(inputs)
        hidden = inputs + self.drop(self.attention(normed, normed, use_causal_mask=True))
        expanded = ops.gelu(self.expand(self.network_norm(hidden)), approximate=True)  # as in GPT-2: by tanh
        return hidden + self.drop(self.contract(expanded))


def build_model(settings):
    """Logits `(batch, length, vocabulary)` for tokens `(batch, length)`."""
    small = kerax.initializers.RandomNormal(stddev=0.02)
    tokens = kerax.Input((settings.length,), dtype="int32")
    embedding = layers.ReversibleEmbedding(
        settings.vocabulary, settings.width, tie_weights=settings.tied, embeddings_initializer=small, name="tokens"
    )
    hidden = embedding(tokens)
    hidden = layers.Dropout(settings.dropout)(hidden + layers.PositionEmbedding(settings.length, small)(hidden))

    def new_block():
        return Block(settings.width, settings.heads, settings.dropout, settings.bias, settings.layers)

    if settings.stacked:
        hidden = layers.Stack(new_block(), settings.layers, settings.keep, name="blocks")(hidden)
    else:
        for _ in range(settings.layers):
            hidden = new_block()(hidden)
    hidden = layers.LayerNormalization(epsilon=1e-5, center=settings.bias, name="norm")(hidden)
    return kerax.Model(tokens, embedding(hidden, reverse=True), name="gpt")


def compile_model(model, settings):
    """Compiles the model with AdamW, warmed up and then cooled down to a tenth."""
    cooling = max(settings.steps - settings.warmup, 1)
    rate = optimizers.schedules.CosineDecay(
        0.0, cooling, alpha=0.1, warmup_target=settings.learning_rate, warmup_steps=min(settings.warmup, settings.steps)
    )
    optimizer = optimizers.AdamW(
        rate, beta_2=0.95, weight_decay=settings.weight_decay, global_clipnorm=settings.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = kerax.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, micro_batches=settings.micro_batches)


def load_tokens(settings):
    """One long array of tokens for training, another for validation or `None`; sets the vocabulary of a text."""
    if settings.data == "synthetic":
        rows = 32 * settings.batch_size
        draw = np.random.default_rng(settings.seed)
        return draw.integers(0, settings.vocabulary, rows * settings.length + 1, dtype=np.uint16), None
    path = os.path.expandvars(settings.data)
    if path.startswith(("http://", "https://")):
        path = kerax.utils.get_file(origin=path)
    if path.endswith(".npy"):
        tokens = np.load(path, mmap_mode="r")
    else:
        text = Path(path).read_text(encoding="utf-8")
        characters = sorted(set(text))
        settings.vocabulary = len(characters)
        codes = {character: code for code, character in enumerate(characters)}
        tokens = np.array([codes[character] for character in text], np.uint16)
    cut = int(len(tokens) * 0.9)
    return tokens[:cut], tokens[cut:]


def rows_of(tokens, length):
    """Inputs and targets `(rows, length)`: the targets are the inputs one token later. Views, nothing is copied."""
    rows = (len(tokens) - 1) // length
    return tokens[: rows * length].reshape(rows, length), tokens[1 : rows * length + 1].reshape(rows, length)


def flops_per_token(model, settings):
    """Operations of training on one token: 6 per weight, and 12 per layer, position and feature for attention."""
    return 6 * model.count_params() + 12 * settings.layers * settings.length * settings.width


def main(arguments=None):
    settings = read_settings(__doc__, SETTINGS | DEVICES, arguments)
    distribute(settings)
    kerax.utils.set_random_seed(settings.seed)
    kerax.mixed_precision.set_global_policy(settings.dtype)
    tokens, held_out = load_tokens(settings)
    model = build_model(settings)
    compile_model(model, settings)
    validation = None if held_out is None else rows_of(held_out, settings.length)
    per_row = flops_per_token(model, settings) * settings.length
    return train(model, rows_of(tokens, settings.length), settings, "tokens", settings.length, per_row, validation)


if __name__ == "__main__":
    main()
