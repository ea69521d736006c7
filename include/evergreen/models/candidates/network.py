"""A network over numbers, categories, the description and the last purchases, trained by torch on a CPU or GPUs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evergreen.errors import BundleError, TrainingError
from evergreen.lake.digest import digest_json
from evergreen.models.candidate import Labels, Matrix, Rows, Sample, Work
from evergreen.models.contributions import Contributions
from evergreen.models.params import Number, Ranges, Value
from evergreen.models.preprocessing import Plan
from evergreen.models.sampling import draw_negatives, drawn_sample

if TYPE_CHECKING:
    import torch

    from evergreen.models.network.encoder import TextEncoder
    from evergreen.models.network.graph import Network
    from evergreen.models.network.layout import Layout

WEIGHTS, LAYOUT = "network.safetensors", "network.json"
NO_TORCH = (
    "candidate network needs torch, which this environment lacks: EVERGREEN_TORCH=cpu or cuda installs it "
    "(requirements/README.md); or take the candidate out of settings.training.candidates"
)
log = logging.getLogger(__name__)


class NetworkCandidate:
    """Trains and holds one network."""

    ranges: ClassVar[Ranges] = {
        "epochs": Number(12, 1, 1_000, whole=True),
        "patience": Number(3, 1, 1_000, whole=True),
        "batch_rows": Number(4_096, 16, 1_048_576, whole=True),
        "learning_rate": Number(2e-3, 1e-6, 1.0),
        "warmup_share": Number(0.05, 0.0, 0.5),
        "weight_decay": Number(0.02, 0.0, 10.0),
        "clip_norm": Number(1.0, 1e-3, 1e3),
        "width": Number(128, 4, 4_096, whole=True),
        "depth": Number(2, 0, 16, whole=True),
        "embedding": Number(8, 1, 256, whole=True),
        "dropout": Number(0.1, 0.0, 0.9),
        "negative_share": Number(1.0, 0.01, 1.0),
        "checkpoint_seconds": Number(30.0, 0.0, 86_400.0),
        "compiled": Number(0, 0, 1, whole=True),
        "text_frozen": Number(0, 0, 1, whole=True, quiet=True),
        "int8": Number(0, 0, 1, whole=True, quiet=True),
        "int8_max_difference": Number(0.02, 0.0, 1.0, quiet=True),
        "int8_average_precision_loss": Number(0.005, 0.0, 1.0, quiet=True),
        "int8_log_loss_rise": Number(0.002, 0.0, 1.0, quiet=True),
    }
    apart: ClassVar[tuple[str, ...]] = ("int8", "text_frozen")  # no matter of a twin on few rows
    plan: ClassVar[Plan] = Plan(scale=True, one_hot=False, raw=True)
    frameworks: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    def __init__(self, network: Network | None = None) -> None:
        self.network = network
        self.compressed: dict[str, torch.Tensor] | None = None  # what is saved in place of the weights
        self.text_encoder: TextEncoder | None = None  # as it was before training
        self.work: Work | None = None

    @staticmethod
    def features(params: Mapping[str, Value], available: Sequence[str]) -> list[str]:
        """All of them."""
        if find_spec("torch") is None:
            raise TrainingError(NO_TORCH)
        return list(available)

    @staticmethod
    def rows(params: Mapping[str, Value], labels: Labels, seed: int) -> Rows | None:
        """All positives and a share of the negatives."""
        return draw_negatives(labels, float(params["negative_share"]), seed)

    def keep_checkpoints(self, work: Work) -> None:
        """Where `fit` keeps checkpoints, and goes on from one."""
        self.work = work

    def take_text_encoder(self, folder: Path, digest: str) -> None:
        """Which text encoder `fit` begins with (docs/how-to/plug-in-a-text-encoder.md)."""
        from evergreen.models.network.encoder import TextEncoder

        self.text_encoder = TextEncoder.read(folder, digest)

    def fit(
        self, train: Sample, validation: Sample, params: Mapping[str, Value], *, seed: int, threads: int
    ) -> dict[str, Any]:
        """Trains until the log loss of the validation customers stops falling, and keeps the best epoch.

        On a CPU one thread does it whatever `threads` says: more would sum in another order and give other bits. More
        cores are used by more processes, which torchrun starts (docs/how-to/train-on-gpus.md).
        """
        import torch

        from evergreen.models.network.checkpoint import Checkpoints
        from evergreen.models.network.graph import Network
        from evergreen.models.network.layout import Layout
        from evergreen.models.network.loop import Recipe, seed_of
        from evergreen.models.network.loop import train as train_network
        from evergreen.models.network.rows import Rows as Table
        from evergreen.models.network.team import reproducible, team

        layout = Layout.of(
            train.names,
            train.matrix,
            embedding=int(params["embedding"]),
            width=int(params["width"]),
            depth=int(params["depth"]),
            dropout=float(params["dropout"]),
            text_width=0 if self.text_encoder is None else self.text_encoder.vectors.shape[1],
        )
        self._check_texts(layout, params)
        recipe = Recipe(
            epochs=int(params["epochs"]),
            patience=int(params["patience"]),
            batch_rows=int(params["batch_rows"]),
            learning_rate=float(params["learning_rate"]),
            warmup_share=float(params["warmup_share"]),
            weight_decay=float(params["weight_decay"]),
            clip_norm=float(params["clip_norm"]),
            seed=seed,
            checkpoint_seconds=float(params["checkpoint_seconds"]),
            compiled=bool(params["compiled"]),
        )
        sample, weights = drawn_sample(train, float(params["negative_share"]), seed)
        with reproducible(), team() as members:
            torch.manual_seed(seed_of(seed, "weights"))
            network = Network(layout)
            if self.text_encoder is not None:
                vectors = torch.from_numpy(self.text_encoder.vectors)
                network.plug_in_text(vectors, frozen=bool(params["text_frozen"]))
            network.to(members.device)
            checkpoints = None
            if self.work is not None:
                identity = {"spec": self.work.spec, "graph": digest_json(layout.to_json())}
                checkpoints = Checkpoints(self.work.folder, identity)
            progress = train_network(
                network,
                Table.of(sample.matrix, sample.labels, members.device, weights),
                Table.of(validation.matrix, validation.labels, members.device),
                recipe,
                members,
                checkpoints,
            )
            self.network = network.cpu().eval()
        report = {
            "best_iteration": progress.best_epoch,
            "fitted_rows": len(sample.labels),
            "epochs": progress.epoch,
            "rows_at_once": progress.micro_rows,
            "processes": members.size,
            "device": members.device.type,
        }
        return report | ({"int8": self._compress(validation, params)} if params["int8"] else {})

    def _check_texts(self, layout: Layout, params: Mapping[str, Value]) -> None:
        if self.text_encoder is None and params["text_frozen"]:
            raise TrainingError("text_frozen is 1 without a text encoder: name one (text_encoder), or set it to 0")
        if self.text_encoder is not None and not layout.text:
            raise TrainingError("a text encoder is given, but the training set has no description: build a new one")

    def _compress(self, validation: Sample, params: Mapping[str, Value]) -> dict[str, float]:
        """Goes over to int8 weights and says what that changed.

        Raises:
            TrainingError: it changed more than the parameters allow. Float weights are no way out: whoever asked for a
                small bundle would get a large one, under parameters that say otherwise.
        """
        from evergreen.models.network.compression import Parity, compress, expand

        assert self.network is not None, "fit comes first"
        exact = self.predict(validation.matrix)
        self.compressed = compress(self.network.state_dict())
        self.network.load_state_dict(expand(self.compressed))
        parity = Parity.of(exact, self.predict(validation.matrix), validation.labels)
        parity.check(Parity(**{one.name: float(params[f"int8_{one.name}"]) for one in fields(Parity)}))
        return asdict(parity)

    def predict(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores in (0, 1), float64[rows]. On the CPU; a row's score does not depend on the others."""
        from evergreen.models.network.scoring import scores

        assert self.network is not None, "fit or load comes first"
        return scores(self.network, matrix)

    def contributions(self, matrix: Matrix, background: Matrix) -> Contributions:
        """Integrated gradients of the log-odds, from the background's mean on."""
        from evergreen.models.network.attribution import contributions

        assert self.network is not None, "fit or load comes first"
        return contributions(self.network, matrix, background)

    def save(self, folder: Path) -> None:
        """Writes the weights, compressed where they were, as safetensors, and what the graph is built from as JSON."""
        from safetensors.torch import save

        from evergreen.models.network.encoder import FOLDER

        assert self.network is not None, "fit or load comes first"
        weights = self.compressed or self.network.state_dict()
        # Not by save_file: who serves is another user than who trained, and it lets nobody else read what it writes.
        (folder / WEIGHTS).write_bytes(save({name: tensor.contiguous() for name, tensor in weights.items()}))
        (folder / LAYOUT).write_text(json.dumps(self.network.layout.to_json(), sort_keys=True, indent=1))
        if self.text_encoder is not None:
            self.text_encoder.write(folder / FOLDER)  # the model can then be made again from its bundle

    @classmethod
    def load(cls, folder: Path) -> NetworkCandidate:
        """Reads what `save` wrote.

        Raises:
            BundleError: torch is not installed.
            ValueError: the weights are not those of the graph.
        """
        if find_spec("torch") is None:
            raise BundleError(NO_TORCH)
        from safetensors.torch import load_file

        from evergreen.models.network.compression import expand
        from evergreen.models.network.graph import Network
        from evergreen.models.network.layout import Layout

        network = Network(Layout.from_json(json.loads((folder / LAYOUT).read_text())))
        try:
            network.load_state_dict(expand(load_file(folder / WEIGHTS)))
        except RuntimeError as error:
            raise ValueError(f"{WEIGHTS} is not of the graph of {LAYOUT}: {error}") from None
        return cls(network.eval())


CANDIDATE = NetworkCandidate
