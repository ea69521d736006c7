"""The network's modules, built from a `Layout`: an encoder for each kind of column, and a head over all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evergreen.models.network.layout import Layout, Steps


class Network(nn.Module):
    """Log-odds of rows: float32[rows, columns] to float32[rows]."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        tabular = Tabular(layout)
        self.encoders = nn.ModuleList([tabular])
        if layout.text:
            self.encoders.append(Text(layout))
        self.encoders.extend(Sequence(steps, layout.embedding) for steps in layout.sequences)
        self.head = Head(tabular.out + layout.embedding * (len(self.encoders) - 1), layout)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """Log-odds, float32[rows]."""
        parts = [encoder(matrix) for encoder in self.encoders]
        found: torch.Tensor = self.head(torch.cat(parts, 1))
        return found

    def plug_in_text(self, vectors: torch.Tensor, *, frozen: bool) -> None:
        """Takes over a text encoder's vectors, float32[buckets, text_width]; `frozen`: training leaves them alone."""
        for encoder in self.encoders:
            if isinstance(encoder, Text):
                encoder.plug_in(vectors, frozen=frozen)

    def text_vectors(self) -> npt.NDArray[np.float32] | None:
        """The text encoder's vectors, float32[buckets, n]; None for a network without one."""
        for encoder in self.encoders:
            if isinstance(encoder, Text):
                return encoder.vectors.weight[1:].detach().numpy().copy()
        return None


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


class Text(nn.Module):
    """The mean of the vectors of a text's parts (fastText: Bojanowski et al. 2017, section 3.2).

    They are learnt here, or come from an encoder of before, whose width a linear map brings to that of the others.
    """

    columns: torch.Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.register_buffer("columns", torch.tensor(layout.text, dtype=torch.long), persistent=False)
        width = layout.text_width or layout.embedding
        self.vectors = nn.EmbeddingBag(layout.buckets + 1, width, mode="mean", padding_idx=0)
        self.out = nn.Linear(width, layout.embedding, bias=False) if layout.text_width else nn.Identity()

    def plug_in(self, vectors: torch.Tensor, *, frozen: bool) -> None:
        """Takes over vectors; the one for no id stays zeros."""
        with torch.no_grad():
            self.vectors.weight[1:] = vectors
        self.vectors.weight.requires_grad_(not frozen)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """float32[rows, embedding]; zeros for no text."""
        found: torch.Tensor = self.out(self.vectors(matrix.index_select(1, self.columns).long() + 1))
        return found


class Sequence(nn.Module):
    """A weighted mean of what is seen in each step, in which learnt weights say which steps matter.

    Attention with one learnt query (Lee et al. 2019, Set Transformer, section 3.2); a vector for each place in the
    sequence is added, and one more place, which holds nothing, takes the weight where no step tells anything.
    """

    columns: torch.Tensor

    def __init__(self, steps: Steps, width: int) -> None:
        super().__init__()
        columns = [column for step in steps.columns for column in step]
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.long), persistent=False)
        self.shape = (len(steps.columns), len(steps.columns[0]))
        self.values = nn.Linear(self.shape[1], 2 * width)
        self.places = nn.Parameter(torch.zeros(self.shape[0], 2 * width))
        self.weigh = nn.Linear(2 * width, 1)
        self.out = nn.Linear(2 * width, width)

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """float32[rows, width]; zeros for no step."""
        steps = matrix.index_select(1, self.columns).view(-1, *self.shape)
        seen = nn.functional.silu(self.values(steps) + self.places)
        weights = self.weigh(seen).masked_fill(steps[:, :, :1] < 0, -torch.inf)
        weights = torch.softmax(torch.cat([torch.zeros_like(weights[:, :1]), weights], 1), 1)[:, 1:]
        found: torch.Tensor = (weights * self.out(seen)).sum(1)
        return found


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
