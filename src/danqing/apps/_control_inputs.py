"""The fields for control maps and image prompts. Needs no torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from danqing.apps._inputs import AppInputs
from danqing.core.control import Controls, ImagePrompts, Names


class ControlInputs(AppInputs):
    """The inputs of an app that supports control maps and image prompts."""

    GROUP: ClassVar[str] = "control"

    control: Controls = Field(
        default=(),
        max_length=8,
        description="follow a picture, as canny=photo.jpg:0.8",
        json_schema_extra={"advanced": True},
    )
    control_model: Names = Field(
        default=(),
        max_length=8,
        description="the ControlNets or T2I-Adapters for them; else by name from the folder controls",
        json_schema_extra={"advanced": True},
    )
    ip_image: ImagePrompts = Field(
        default=(),
        max_length=8,
        description="a picture as a prompt, by an IP-Adapter, as photo.jpg:0.6",
        json_schema_extra={"advanced": True},
    )
    ip_adapter: Names = Field(
        default=(),
        max_length=8,
        description="the IP-Adapters for them; else by name from the folder controls",
        json_schema_extra={"advanced": True},
    )
