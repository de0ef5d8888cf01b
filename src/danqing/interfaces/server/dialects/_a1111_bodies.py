"""The request bodies of A1111's clients, and their translation to inputs of our apps."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from danqing.core.card import Can, Card
from danqing.core.errors import BadBrief
from danqing.interfaces.server.dialects._sizes import nearest_size

SAMPLERS = {
    "DPM++ 2M": "dpmpp_2m",
    "DPM++ 2M SDE": "dpmpp_2m_sde",
    "Euler a": "euler_ancestral",
    "Euler": "euler",
    "Heun": "heun",
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "LCM": "lcm",
    "UniPC": "unipc",
}
"""Maps A1111's names of samplers to ours."""

KARRAS = ("dpmpp_2m", "dpmpp_2m_sde")
"""Our samplers that can use Karras' spacing too."""

SCHEDULERS = ("Automatic", "Karras")


def _names(value: object) -> object:
    """A list, also for a single name or nothing, which some clients send."""
    return [] if value is None else [value] if isinstance(value, str) else value


class TextToImage(BaseModel):
    """The body of txt2img; fields that mean nothing here are taken and left aside."""

    model_config = ConfigDict(extra="ignore")

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: Annotated[list[str], BeforeValidator(_names)] = Field(default_factory=list)
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    tiling: bool | None = False
    override_settings: dict[str, Any] | None = None
    send_images: bool | None = True
    force_task_id: str | None = Field(default=None, max_length=200)
    alwayson_scripts: dict[str, Any] | None = None

    def inputs(self, card: Card, model: str) -> dict[str, Any]:
        """The inputs of one of our apps."""
        seed = None if self.seed is None or self.seed < 0 else self.seed
        other = None if self.subseed is None or self.subseed < 0 else self.subseed
        return {
            "prompt": self.prompt or "",
            "negative_prompt": self.negative_prompt or None,
            "style": next((style for style in self.styles if style in card.styles), None),
            "model": model,
            "seed": seed,
            "variation": self.subseed_strength or None,
            "variation_seed": other if self.subseed_strength else None,
            "sampler": self.sampler(card),
            "count": max(1, self.batch_size or 1) * max(1, self.n_iter or 1),
            "steps": self.steps or None,
            "guidance": self.cfg_scale,
            "tile": (self.tiling and Can.TILE in card.can) or None,
        }

    def size(self, card: Card) -> dict[str, Any]:
        """The size in pixels, rounded to multiples that the model can paint."""
        if not self.width and not self.height:
            return {}
        side = card.width * card.scale
        width, height = nearest_size(
            self.width or self.height or side, self.height or self.width or side, card
        )
        return {"width": width, "height": height}

    def sampler(self, card: Card) -> str | None:
        """Our name of the sampler. Raises BadBrief: there is no such sampler."""
        name = self.sampler_name or self.sampler_index
        if not name or name == "Automatic" or not card.sampler:
            return None
        plain = name.removesuffix(" Karras")
        titles = {title.lower(): ours for title, ours in SAMPLERS.items()}
        ours = titles.get(plain.lower()) or titles.get(plain.removeprefix("k_").replace("_", " ").lower())
        if ours is None:
            raise BadBrief(f"sampler {name[:60]!r} is not known: use {', '.join(SAMPLERS)}", "sampler_name")
        karras = plain != name or (self.scheduler or "").lower() == "karras"
        return f"{ours}_karras" if karras and ours in KARRAS else ours


class ImageToImage(TextToImage):
    """The body of img2img."""

    init_images: list[str] = Field(default_factory=list, max_length=4)
    mask: str | None = None
    mask_blur: int | None = 4
    inpainting_mask_invert: int | None = 0
    denoising_strength: float | None = 0.75


class OneImage(BaseModel):
    """A body with a picture."""

    model_config = ConfigDict(extra="ignore")

    image: str
