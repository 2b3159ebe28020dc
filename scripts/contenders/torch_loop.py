"""PyTorch, eager, on the CPU or the first GPU."""

import math

import torch
from torch import nn
from torch.nn import functional


class CNN(nn.Module):
    """Two convolutions with pooling, two dense layers."""

    def __init__(self, work):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.hidden, self.out = nn.Linear(1600, 128), nn.Linear(128, work.classes)

    def forward(self, x):
        x = x.permute(0, 3, 1, 2)
        for convolution in (self.first, self.second):
            x = functional.max_pool2d(functional.relu(convolution(x)), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


class LSTM(nn.Module):
    """The last output of an LSTM, and a dense layer."""

    def __init__(self, work):
        super().__init__()
        self.lstm = nn.LSTM(work.features, work.hidden, batch_first=True)
        self.out = nn.Linear(work.hidden, work.classes)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, work):
        super().__init__()
        self.heads = work.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(work.width), nn.LayerNorm(work.width)
        self.qkv, self.project = nn.Linear(work.width, 3 * work.width), nn.Linear(work.width, work.width)
        self.up, self.down = nn.Linear(work.width, 4 * work.width), nn.Linear(4 * work.width, work.width)

    def forward(self, h):
        q, k, v = self.qkv(self.norm1(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.project(attended.transpose(1, 2).flatten(2))
        return h + self.down(functional.gelu(self.up(self.norm2(h))))


class GPT(nn.Module):
    """A small causal transformer."""

    def __init__(self, work):
        super().__init__()
        self.tokens = nn.Embedding(work.vocabulary, work.width)
        self.positions = nn.Parameter(torch.randn(work.length, work.width) / math.sqrt(work.width))
        self.blocks = nn.Sequential(*(Block(work) for _ in range(work.num_layers)))
        self.norm, self.out = nn.LayerNorm(work.width), nn.Linear(work.width, work.vocabulary)

    def forward(self, x):
        return self.out(self.norm(self.blocks(self.tokens(x) + self.positions))).flatten(0, 1)


def make_model(work) -> nn.Module:
    """The workload's model."""
    if work.model == "mlp":
        return nn.Sequential(nn.Linear(work.features, work.hidden), nn.ReLU(), nn.Linear(work.hidden, work.classes))
    return {"cnn": CNN, "lstm": LSTM, "gpt": GPT}[work.model](work)


def build(work, contender: str):
    """A function that does one epoch, evaluation or prediction and returns its loss."""
    from contenders.workloads import EPSILON, LEARNING_RATE

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = make_model(work).to(device)
    x, y = torch.from_numpy(work.x).to(device), torch.from_numpy(work.y.astype("int64")).to(device)
    batches = [slice(at, at + work.batch) for at in range(0, len(x), work.batch)]
    if work.task != "fit":

        @torch.inference_mode()
        def infer():
            if work.task == "predict":
                return float(torch.cat([model(x[rows]).softmax(-1) for rows in batches])[:, 0].mean())
            return float(sum(functional.cross_entropy(model(x[rows]), y[rows]) for rows in batches)) / len(batches)

        return infer
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, eps=EPSILON, fused=True)

    def run():
        total = hits = torch.zeros((), device=device)
        for rows in torch.from_numpy(work.order()).to(device):
            optimizer.zero_grad()
            logits, labels = model(x[rows]), y[rows].flatten()
            loss = functional.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total, hits = total + loss.detach(), hits + (logits.argmax(-1) == labels).sum()
        return float(total) / work.num_steps

    return run
