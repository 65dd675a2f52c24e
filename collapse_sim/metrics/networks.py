"""Feature maps whose network is read from a file: Inception as in published figures, TorchScript files, DINOv2."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from collapse_sim.core.component import Component
from collapse_sim.core.errors import MissingError
from collapse_sim.data.base import Info
from collapse_sim.families.pretrained import reason
from collapse_sim.metrics.weights import (
    OTHERS,
    WeightsFile,
    candidate_paths,
    download,
    first_file,
    folders_of,
    hash_of,
    hub_file,
    socket_timeout,
)

BATCH_ROWS = 20  # per forward pass: 300 MB of activations in Inception, and not slower on a CPU than 64


class _Network(Component):
    """Base: images of any size; grey ones are repeated to three channels."""

    version: ClassVar[int] = 1

    def check(self, info: Info) -> None:
        """Raises ValueError for images that are neither grey nor RGB."""
        channels = info.shape("image")[0]
        if channels not in (1, 3):
            raise ValueError(f"{type(self).__name__} takes grey or RGB images, found {channels} channels")

    def network(self) -> None:
        """Nothing is fitted."""


class Inception(_Network):
    """Inception v3 as in published FID figures, with torch-fidelity's port of the weights: 2,048 numbers per image.

    Its probabilities are over the 1,008 outputs of its own head (without the bias, as for the Inception score). The
    file is searched in the data folder, in its `weights`, and in torch's own cache; if it is not found, it is
    downloaded into this cache. 10 to 20 images per second on two CPU cores.
    """

    file: str | None = None
    """File with other weights of this network, relative to the data folder or absolute. null: the published weights."""

    name: ClassVar[str] = "weights-inception-2015-12-05-6726825d.pth"
    published: ClassVar[str] = "6726825d"  # prefix of the published file's hash
    not_in_key: ClassVar[tuple[str, ...]] = ("file",)  # the key has its content hash
    own_classes: ClassVar[bool] = False

    def weights(self, folder: Path) -> WeightsFile:
        """Find the file, or download it. Raises MissingError with the folders searched, and alternatives."""
        path = self._find(folder)
        sha256 = hash_of(path)
        known = sha256.startswith(self.published)
        if not known:
            _inception(path, sha256)  # finds out before any training whether the file is something else
        return WeightsFile("inception", path, sha256, 2048, 1008, "" if known else "not the published weights")

    def _find(self, folder: Path) -> Path:
        candidates = candidate_paths(self.file or self.name, folder) + ([] if self.file else [hub_file(self.name)])
        path = first_file(candidates)
        if path:
            return path
        missing = f"{self.file or self.name}: the weights of the feature map `inception` are in none of: "
        missing += folders_of(candidates)
        if self.file:
            raise MissingError(f"{missing}; put them there, name the file in `file`, or {OTHERS}")
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        try:
            download(URL_INCEPTION_V3, candidates[-1], self.published)
        except (OSError, RuntimeError) as error:
            raise MissingError(
                f"{missing}; and the download failed ({error}); put the file there, "
                f"from {URL_INCEPTION_V3}, or {OTHERS}"
            ) from error
        return candidates[-1]

    def load(self, weights: WeightsFile) -> nn.Module:
        """The network on the CPU, in eval mode."""
        return _inception(weights.verified(), weights.sha256).to(memory_format=torch.channels_last)

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, 2048) on the CPU."""
        return self.classified(model, images)[0]

    def classified(self, model: nn.Module | None, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, C, H, W) -> float32 features (n, 2048) and probabilities (n, 1008) on the CPU."""
        features, logits = zip(*_outputs(model, images, lambda batch: batch), strict=True)
        return torch.cat(features), torch.cat(logits).softmax(1)


def _inception(path: Path, sha256: str) -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        file = io.BytesIO()  # torch-fidelity unpickles its file without a guard: it gets plain tensors, saved again
        torch.save(state, file)
        file.seek(0)
        model: nn.Module = FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=file
        )
    except Exception as error:  # torch raises many types for unexpected files
        raise MissingError(
            f"{path}: no weights of torch-fidelity's Inception ({sha256[:8]}: {_first_line(error)}); "
            f"get {Inception.name}, or {OTHERS}"
        ) from error
    return model


class TorchScript(_Network):
    """Your own network as a TorchScript file: float images (n, 3, size, size) -> features (n, F).

    Such a file is code: it is run only from the beginning of a run, never by a check before. Images are resized as for
    Inception (TensorFlow 1's bilinear, by torch-fidelity), then (x - shift) / scale. The defaults are Inception's.
    """

    file: str
    """The TorchScript file, relative to the data folder or absolute."""
    size: Annotated[int, Field(gt=0)] = 299
    """Pixels per side."""
    shift: float = 128.0
    """Subtracted from intensities of 0 to 255."""
    scale: Annotated[float, Field(gt=0)] = 128.0
    """The difference is divided by this number."""

    def describe(self) -> dict[str, Any]:
        """The file is in the keys by its content, not its location."""
        return super().describe() | {"file": Path(self.file).name}

    def weights(self, folder: Path) -> WeightsFile:
        """Find the file, without running its code. Raises MissingError when there is none."""
        candidates = candidate_paths(self.file, folder)
        path = first_file(candidates)
        if path is None:
            raise MissingError(
                f"{self.file}: the network of the feature map `torchscript` is in none of: {folders_of(candidates)}; "
                "put it there, or choose another feature map: inception, classifier, or pixels"
            )
        sha256 = hash_of(path)
        return WeightsFile(path.name, path, sha256, None)

    def try_out(self, weights: WeightsFile) -> None:
        """Run it on two grey images. Raises MissingError when it does not return vectors."""
        weights.dimensions = _dimensions(weights.verified(), weights.sha256, self.size)

    def load(self, weights: WeightsFile) -> nn.Module:
        """The network on the CPU, in eval mode."""
        return _script(weights.verified())

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, F) on the CPU."""
        return torch.cat([features for (features,) in _outputs(model, images, self._prepared)])

    def _prepared(self, images: Tensor) -> Tensor:
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        resized = interpolate_bilinear_2d_like_tensorflow1x(
            images.float(), size=(self.size, self.size), align_corners=False
        )
        prepared: Tensor = (resized - self.shift) / self.scale
        return prepared.contiguous(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU


@functools.lru_cache(maxsize=8)
def _dimensions(path: Path, sha256: str, size: int) -> int:
    """F of a TorchScript network, from two grey images."""
    images = torch.zeros(2, 3, size, size)
    try:
        with torch.no_grad():
            output = _script(path)(images)
    except Exception as error:  # code can raise anything
        raise MissingError(
            f"{path}: no features of images (2, 3, {size}, {size}): {_first_line(error)}; "
            "set `size` to what the network takes, or save it again with torch.jit.save"
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2 or not output.is_floating_point():
        what = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise MissingError(
            f"{path}: for images (2, 3, {size}, {size}) it returns {what}; "
            "needed: a float tensor (2, F), one vector per image"
        )
    return output.shape[1]


def _script(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")  # it is needed to read files
        script: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return script.eval()


class DINOv2(_Network):
    """DINOv2 (Oquab et al. 2023) by torch-fidelity, as used by Stein et al. 2023: 384 to 1,536 numbers per image.

    Code and weights are torch hub's (facebookresearch/dinov2), from its cache, or downloaded before the run begins.
    The code is run only when features are computed, never by a check before.
    """

    model: Literal["vit-s-14", "vit-b-14", "vit-l-14", "vit-g-14"] = "vit-l-14"
    """Size of the network; published figures use vit-l-14."""

    repository: ClassVar[str] = "facebookresearch_dinov2_main"  # the folder in torch hub's cache
    widths: ClassVar[dict[str, int]] = {"vit-s-14": 384, "vit-b-14": 768, "vit-l-14": 1024, "vit-g-14": 1536}

    def weights(self, folder: Path) -> WeightsFile:
        """Find code and weights in torch hub's cache, or download them. Raises MissingError when there are none."""
        path, code = hub_file(f"dinov2_{self.model.replace('-', '')}_pretrain.pth"), self._code()
        if not path.is_file() or not code.is_dir():
            try:
                self._fetch(path, code)
            except Exception as error:  # torch hub raises many types
                raise MissingError(
                    f"{path.name}: the weights of the feature map `dinov2` are not in {path.parent}, or their code "
                    f"not in {code}; and torch hub could not get them ({_first_line(error)}); fetch them where there "
                    "is a network, or choose another feature map: inception, torchscript, classifier, or pixels"
                ) from error
        return WeightsFile(f"dinov2 {self.model}", path, hash_of(path), self.widths[self.model])

    def load(self, weights: WeightsFile) -> nn.Module:
        """The network on the CPU, in eval mode."""
        weights.verified()
        return self._built()

    def features(self, model: nn.Module | None, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> float32 (n, F) on the CPU."""
        return torch.cat([features for (features,) in _outputs(model, images, lambda batch: batch)])

    def _code(self) -> Path:
        return Path(torch.hub.get_dir()) / self.repository

    def _fetch(self, path: Path, code: Path) -> None:
        """Download what is missing, without running the code, which torch.hub.load would do."""
        if not code.is_dir():
            fetch: Any = torch.hub._get_cache_or_reload  # torch.hub.load without the loading
            with socket_timeout(), contextlib.redirect_stdout(sys.stderr):
                fetch("facebookresearch/dinov2", False, True, verbose=False)
        if not path.is_file():
            short = self.model.replace("-", "")
            download(f"https://dl.fbaipublicfiles.com/dinov2/dinov2_{short}/{path.name}", path, "")

    def _built(self) -> nn.Module:
        from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

        model: nn.Module = FeatureExtractorDinoV2(f"dinov2-{self.model}", ["dinov2"])
        return model


@torch.no_grad()
def _outputs(
    model: nn.Module | None, images: Tensor, prepared: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """A network's outputs, each (rows, ...) float32 on the CPU, for consecutive batches of uint8 (n, C, H, W)."""
    if model is None:
        raise ValueError("features of a network need the network")
    device = next((t.device for t in itertools.chain(model.parameters(), model.buffers())), images.device)
    for batch in torch.split(images, BATCH_ROWS):
        outputs = model(prepared(batch.to(device).expand(-1, 3, -1, -1)))
        yield tuple(output.float().cpu() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))


def _first_line(error: Exception) -> str:
    return reason(error)
