"""The network of diffusion and flow models on points: fully connected, with the time as input of every hidden layer."""

from __future__ import annotations

from torch import Tensor, nn

from collapse_sim.families.labels import embedding_rows
from collapse_sim.families.network import Denoiser

TIME_FEATURES = 32  # sinusoids of the time, and width of its embedding


class Hidden(nn.Module):
    """One hidden layer, scaled and shifted by the time's embedding (Perez et al. 2018).

    A shift alone is far worse: the function to be learned is steep near time 0 and flat at the other end.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.time = nn.Linear(inputs, width), nn.Linear(TIME_FEATURES, 2 * width)
        self.activation, self.dropout = nn.SiLU(), nn.Dropout(dropout)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.time(time).chunk(2, dim=1)
        result: Tensor = self.dropout(self.activation(self.linear(h) * (1 + scale) + shift))
        return result


class MLP(Denoiser):
    """Points (n, d), times and, with `classes`, labels -> (n, d). A label's embedding is added to that of the time."""

    def __init__(self, shape: tuple[int, ...], widths: tuple[int, ...], dropout: float, classes: int = 0) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__(shape, classes)
        (d,) = shape
        self.sinusoids = Timesteps(TIME_FEATURES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedding = TimestepEmbedding(TIME_FEATURES, TIME_FEATURES)
        inputs = (d, *widths[:-1])
        self.hidden = nn.ModuleList(Hidden(i, w, dropout) for i, w in zip(inputs, widths, strict=True))
        self.last = nn.Linear(widths[-1], d)
        if classes:
            self.class_embedding = nn.Embedding(classes + 1, TIME_FEATURES)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The encoder's output is that of the middle hidden layer."""
        time = self.embedding(self.sinusoids(t))
        if self.classes:
            time = time + self.class_embedding(embedding_rows(label, self.classes))
        time = nn.functional.silu(time)
        states = [x]
        for layer in self.hidden:
            states.append(layer(states[-1], time))
        return self.last(states[-1]), states[1 + (len(self.hidden) - 1) // 2]
