"""Reads the VAE of DALL-E: ours, or OpenAI's published encoder.pkl and decoder.pkl.

The two .pkl files are pickled modules. torch's restricted unpickler reads them; it refuses every class that
is not allowed. The classes of the modules are replaced by `_Record`, which only stores their contents, so
that tensors are read and no code of the file runs.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danqing.core.errors import BadWeights
from danqing.nets.discrete_vae import DiscreteVAE, DiscreteVAEConfig
from danqing.weights.pretrained import read_module
from danqing.weights.tensor_files import check_keys, first_line

_CLASSES = (
    "dall_e.encoder.Encoder",
    "dall_e.encoder.EncoderBlock",
    "dall_e.decoder.Decoder",
    "dall_e.decoder.DecoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.upsampling.Upsample",
)
_LONGER = {"w": "weight", "b": "bias"}


class _Record:
    """Replaces an object of the file: it has the object's attributes, but no method of its class."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.contents = state


def open_discrete_vae(folder: Path) -> DiscreteVAE:
    """Open our VAE, or OpenAI's published encoder.pkl and decoder.pkl, from a folder."""
    if (folder / "encoder.pkl").is_file():
        return read_discrete_vae(folder / "encoder.pkl", folder / "decoder.pkl")
    return read_module(folder, DiscreteVAE.from_config)


def fingerprint(vae: DiscreteVAE) -> str:
    """A hash of the VAE's weights in half precision, which saving and loading does not change."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_discrete_vae(encoder: Path, decoder: Path) -> DiscreteVAE:
    """Read OpenAI's published discrete VAE from its two files.

    Raises:
        BadWeights: a file is missing, damaged, something else, or does not fit the other file.
    """
    halves = {"encoder": (encoder, *_read(encoder)), "decoder": (decoder, *_read(decoder))}
    tensors = {
        f"{half}.{_our_name(name)}": tensor
        for half, (_, _, tensors) in halves.items()
        for name, tensor in tensors.items()
    }
    fields, decoder_fields = halves["encoder"][1], halves["decoder"][1]
    try:
        config = DiscreteVAEConfig(
            vocab=fields["vocab_size"],
            channels=fields["input_channels"],
            hidden=fields["n_hid"],
            groups=fields.get("group_count", 4),
            blocks=fields["n_blk_per_group"],
            start=decoder_fields["n_init"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadWeights(f"{str(encoder)!r} is no encoder of DALL-E ({first_line(error)})") from None
    vae = DiscreteVAE(config)
    check_keys(encoder, tensors, vae.state_dict(), "give OpenAI's encoder.pkl and decoder.pkl")
    vae.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return vae.eval()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The plain attributes of the outermost object, and all tensors by name."""
    inert: list[Any] = [(type(name, (_Record,), {}), name) for name in _CLASSES]
    try:
        with torch.serialization.safe_globals(inert):
            whole = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadWeights(f"{str(path)!r} is missing: fetch OpenAI's encoder.pkl and decoder.pkl") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {foreign[1]}, which is no part of DALL-E" if foreign else "is damaged or no such file"
        raise BadWeights(f"{str(path)!r} {what}: nothing of it was run; fetch it again from OpenAI") from None
    if not isinstance(whole, _Record):
        raise BadWeights(f"{str(path)!r} is no module of DALL-E: give OpenAI's encoder.pkl or decoder.pkl")
    return whole.contents, _tensors(whole)


def _tensors(record: _Record, prefix: str = "") -> dict[str, Tensor]:
    tensors = {f"{prefix}{name}": value for name, value in record.contents.get("_parameters", {}).items()}
    for name, inner in record.contents.get("_modules", {}).items():
        if isinstance(inner, _Record):
            tensors |= _tensors(inner, f"{prefix}{name}.")
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def _our_name(name: str) -> str:
    """Our name of a tensor; in their convolutions, weight and bias are called w and b."""
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_LONGER.get(last, last)}"
