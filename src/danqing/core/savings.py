"""The fields of requests that ask for less work for nearly the same picture."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from danqing.core.request import FrozenModel


class Savings(FrozenModel):
    """What need not be computed at every step."""

    GROUP: ClassVar[str] = "sampling"

    guidance_start: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="guide from here, 0 = noise; before it a step costs half (arXiv 2404.07724)",
        json_schema_extra={"step": 0.05, "advanced": True},
    )
    guidance_end: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="guide up to here, 1 = the finished picture; behind it a step costs half",
        json_schema_extra={"step": 0.05, "advanced": True},
    )
    cache_interval: int = Field(
        default=1,
        ge=1,
        le=20,
        description="all of the UNet each so many steps, its outer blocks between (DeepCache), 1 = off",
        json_schema_extra={"unit": "steps", "advanced": True},
    )

    @model_validator(mode="after")
    def _guided_somewhere(self) -> Self:
        if self.guidance_start >= self.guidance_end:
            raise ValueError(
                f"guidance_start {self.guidance_start:g} is not below guidance_end {self.guidance_end:g}: "
                "give a smaller start, or guidance 1 to guide nowhere"
            )
        return self
