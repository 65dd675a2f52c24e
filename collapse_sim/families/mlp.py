"""The network of diffusion and flow models on points: fully connected, told the time in every hidden layer."""

from __future__ import annotations

from torch import Tensor, nn

from collapse_sim.families.network import Denoiser

SINUSOIDS = 64  # features of the time


class Hidden(nn.Module):
    """One hidden layer, shifted by the time's embedding."""

    def __init__(self, inputs: int, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.linear, self.time = nn.Linear(inputs, width), nn.Linear(embedding, width)
        self.activation, self.dropout = nn.SiLU(), nn.Dropout(dropout)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        result: Tensor = self.dropout(self.activation(self.linear(h) + self.time(time)))
        return result


class MLP(Denoiser):
    """Points (n, d) and times -> (n, d)."""

    def __init__(self, shape: tuple[int, ...], widths: tuple[int, ...], dropout: float) -> None:
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps

        super().__init__(shape)
        (d,) = shape
        embedding = max(widths)
        self.sinusoids = Timesteps(SINUSOIDS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embedding = TimestepEmbedding(SINUSOIDS, embedding)
        inputs = (d, *widths[:-1])
        self.hidden = nn.ModuleList(Hidden(i, w, embedding, dropout) for i, w in zip(inputs, widths, strict=True))
        self.last = nn.Linear(widths[-1], d)

    def encoder(self) -> nn.Module:
        """The middle hidden layer."""
        return self.hidden[(len(self.hidden) - 1) // 2]

    def output(self, x: Tensor, t: Tensor) -> Tensor:
        time = nn.functional.silu(self.embedding(self.sinusoids(t)))
        h = x
        for layer in self.hidden:
            h = layer(h, time)
        result: Tensor = self.last(h)
        return result
