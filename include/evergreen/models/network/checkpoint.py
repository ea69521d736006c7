"""Checkpoints of a training: one file without code, written whole or not at all, that knows what it is of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from evergreen.errors import TrainingError
from evergreen.lake.digest import digest_json

FILE = "checkpoint.safetensors"
Tensors = dict[str, torch.Tensor]


class Checkpoints:
    """The newest checkpoint of one training in a folder.

    The file holds tensors, a small JSON document of where the training stands, the identity of the training, and a
    digest over all of it.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        """Takes the folder, and what another training would differ in: words for a person to digests or values."""
        self.file = folder / FILE
        self.identity = dict(identity)

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint in one step: who is killed here leaves the one before."""
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        said = {"identity": self.identity, "state": dict(state)}
        metadata = {"said": json.dumps(said, sort_keys=True), "digest": _digest(kept, said)}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_name(f".{uuid4().hex}")
        try:
            save_file(kept, draft, metadata)
            with draft.open("rb") as written:
                os.fsync(written.fileno())  # renamed before its bytes are down, a power cut would leave it empty
            draft.replace(self.file)
        finally:
            draft.unlink(missing_ok=True)

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Tensors and state of the newest checkpoint, None where there is none.

        Raises:
            TrainingError: it is of another training, or was altered; names the file and what to do.
        """
        if not self.file.exists():
            return None
        remedy = "remove it to train from the start"
        try:
            with safe_open(self.file, framework="pt") as stored:
                metadata = stored.metadata()
                names = stored.keys()
                tensors = {name: stored.get_tensor(name) for name in names}
            said = json.loads(metadata["said"])
            whole = _digest(tensors, said) == metadata["digest"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"checkpoint {self.file} cannot be read ({error!r}): {remedy}") from None
        if not whole:
            raise TrainingError(f"checkpoint {self.file} was altered, its digest is another one: {remedy}")
        for name, value in self.identity.items():
            if said["identity"].get(name) != value:
                seen = str(said["identity"].get(name))[:12]
                raise TrainingError(
                    f"checkpoint {self.file} is of another training, its {name} is {seen}, not {value[:12]}: {remedy}"
                )
        return tensors, said["state"]


def _digest(tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any]) -> str:
    parts = [
        [name, str(tensor.dtype), list(tensor.shape), hashlib.sha256(tensor.numpy().tobytes()).hexdigest()]
        for name, tensor in sorted(tensors.items())
    ]
    return digest_json({"tensors": parts, "said": dict(said)})
