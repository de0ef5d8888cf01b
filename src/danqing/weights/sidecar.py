"""Reads the scheduler settings beside a single file: `model.json`, or the `model.yaml` of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from danqing.core.errors import BadWeights
from danqing.weights.config_checks import SchedulerFields
from danqing.weights.pretrained import Config, read_json
from danqing.weights.tensor_files import first_line, unreadable

FIELDS = (
    "prediction_type",
    "rescale_betas_zero_snr",
    "timestep_spacing",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "num_train_timesteps",
    "steps_offset",
    "set_alpha_to_one",
)
_LARGEST = 2**20  # largest size of a YAML file in bytes
_YAML = {  # names in latent diffusion's training config -> ours
    "parameterization": "prediction_type",
    "linear_start": "beta_start",
    "linear_end": "beta_end",
    "timesteps": "num_train_timesteps",
    "rescale_betas_zero_snr": "rescale_betas_zero_snr",
    "zero_terminal_snr": "rescale_betas_zero_snr",
}
PREDICTIONS = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}


def read_sidecar(path: Path) -> Config:
    """The fields of a scheduler's config beside the file at `path`. JSON takes precedence over YAML.

    Other programs use such a JSON file too: keys that are not in `FIELDS` are ignored.

    Raises:
        BadWeights: a file cannot be read, or has a wrong value, which the message names.
    """
    fields: Config = {}
    for place, read in ((path.with_suffix(".yaml"), _read_yaml), (path.with_suffix(".json"), read_json)):
        if place.is_file():
            stated = {key: value for key, value in read(place).items() if key in FIELDS}
            _check(place, stated)
            fields |= stated
    if "prediction_type" in fields:
        fields["prediction_type"] = PREDICTIONS.get(fields["prediction_type"], fields["prediction_type"])
    return fields


def _check(place: Path, fields: Config) -> None:
    try:
        SchedulerFields.check({"beta_schedule": "scaled_linear", **fields})
    except ValidationError as error:
        raise BadWeights(f"{str(place)!r}: {first_line(error)}: correct it") from None


def _read_yaml(path: Path) -> Config:
    try:
        text = path.read_text("utf-8")[:_LARGEST]
        tree: Any = yaml.safe_load(text)
        params = tree["model"]["params"]
        return {ours: params[theirs] for theirs, ours in _YAML.items() if theirs in params}
    except OSError as error:
        raise unreadable(path, error) from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadWeights(
            f"{str(path)!r} is no config of latent diffusion ({first_line(error)}): correct it or remove it"
        ) from None
