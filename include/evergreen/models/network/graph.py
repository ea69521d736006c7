"""The network's modules, built from a `Layout`: an encoder for each kind of column, and a head over all of them."""

from __future__ import annotations

import torch
from torch import nn

from evergreen.models.network.layout import Layout


class Network(nn.Module):
    """Log-odds of rows: float32[rows, columns] to float32[rows]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        tabular = Tabular(layout)
        self.encoders = nn.ModuleList([tabular])
        self.head = Head(tabular.out, layout)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """Log-odds, float32[rows]."""
        parts = [encoder(matrix) for encoder in self.encoders]
        found: torch.Tensor = self.head(torch.cat(parts, 1))
        return found


class Tabular(nn.Module):
    """Normalised numbers as they are, each category as a learnt vector."""

    numbers: torch.Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.register_buffer("numbers", torch.tensor(layout.numbers, dtype=torch.long), persistent=False)
        self.columns = tuple(category.column for category in layout.categories)
        self.sizes = tuple(category.size for category in layout.categories)
        self.embeddings = nn.ModuleList(nn.Embedding(size, layout.embedding) for size in self.sizes)
        self.out = len(layout.numbers) + len(self.sizes) * layout.embedding

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """float32[rows, out]."""
        parts = [matrix.index_select(1, self.numbers)]
        for column, size, embedding in zip(self.columns, self.sizes, self.embeddings, strict=True):
            code = matrix[:, column].long() + 1  # 0 is unknown
            parts.append(embedding(torch.where(code < size, code, 0)))
        return torch.cat(parts, 1)


class Head(nn.Module):
    """A residual perceptron to one number (He et al. 2016, section 3; for tables Gorishniy et al. 2021, 3.2)."""

    def __init__(self, inputs: int, layout: Layout) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, layout.width)
        self.blocks = nn.ModuleList(Block(layout.width, layout.dropout) for _ in range(layout.depth))
        self.norm = nn.LayerNorm(layout.width)
        self.last = nn.Linear(layout.width, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """float32[rows]."""
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        logits: torch.Tensor = self.last(nn.functional.silu(self.norm(hidden)))
        return logits[:, 0]


class Block(nn.Module):
    """What a residual step adds."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """float32[rows, width]."""
        inner = self.dropout(nn.functional.silu(self.linear(self.norm(hidden))))
        added: torch.Tensor = self.out(inner)
        return added
