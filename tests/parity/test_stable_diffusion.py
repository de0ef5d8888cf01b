"""Our loop against StableDiffusionPipeline, tiny and random, and each other's folders."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor

from danqing.conditioning.text import TextEncoder
from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.card import Card
from danqing.core.seeds import Seeds
from danqing.diffusion.painter import DiffusionPainter
from danqing.families.stable_diffusion.painter import (
    SCHEDULE,
    open_folder,
    painter_of,
    random_components,
    save_folder,
)
from danqing.weights.diffusers_folder import StableDiffusionComponents

SD1 = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
SCHEDULERS = {"epsilon": SD1, "v": SCHEDULE}


def pipeline_of(components: StableDiffusionComponents) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline(
        vae=components.vae,
        text_encoder=components.text_encoder,
        tokenizer=components.tokenizer,
        unet=components.unet,
        scheduler=DDIMScheduler.from_config(components.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def brief_for(card: Card, **fields: Any) -> ResolvedBrief:
    given = {"prompt": "a red panda", "negative_prompt": "blue", "seed": 9, "count": 2, "native": True}
    return Brief(**{**given, "steps": 5, "guidance": 5.0, "sampler": "ddim", **fields}).resolve(card)


def paint(painter: DiffusionPainter, brief: ResolvedBrief) -> tuple[Tensor, Tensor]:
    """(latents, pixels in [-1, 1]) of our loop."""
    words = painter.condition(brief)
    canvas = painter.begin(brief, words, Seeds.of(brief.seed, brief.count))
    *_, canvas = painter.steps(brief, words, canvas)
    return canvas.state, painter.finish(canvas)


def their_paint(
    pipeline: StableDiffusionPipeline, brief: ResolvedBrief, channels: int, output: str
) -> Tensor:
    latents = Seeds.of(brief.seed, brief.count).normal(channels, brief.height // 8, brief.width // 8)
    return pipeline(
        [brief.prompt] * brief.count,
        negative_prompt=[brief.negative_prompt] * brief.count,
        height=brief.height,
        width=brief.width,
        num_inference_steps=brief.steps,
        guidance_scale=brief.guidance,
        guidance_rescale=brief.rescale,
        latents=latents,
        output_type=output,
    ).images


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())
@pytest.mark.parametrize("fields", [{}, {"rescale": 0.7}, {"width": 48}], ids=["plain", "rescale", "wide"])
def test_the_loop(scheduler: dict[str, Any], fields: dict[Any, Any]) -> None:
    """Measured: 1.2e-5 on latents up to 22, 2e-6 on pixels."""
    components = replace(random_components(), scheduler=scheduler)
    painter, pipeline = painter_of(components), pipeline_of(components)
    brief = brief_for(painter.card, **fields)
    latents, pixels = paint(painter, brief)
    torch.testing.assert_close(latents, their_paint(pipeline, brief, 8, "latent"), rtol=0, atol=1e-4)
    theirs = their_paint(pipeline, brief, 8, "pt")
    torch.testing.assert_close(pixels / 2 + 0.5, theirs, rtol=0, atol=1e-4)


def test_our_folder_in_their_hands(tmp_path: Path) -> None:
    """Measured: 2e-6."""
    save_folder(random_components(), tmp_path / "model")
    painter = open_folder(tmp_path / "model")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    brief = brief_for(painter.card)
    latents, _ = paint(painter, brief)
    torch.testing.assert_close(latents, their_paint(pipeline, brief, 8, "latent"), rtol=0, atol=1e-4)


def test_their_folder_in_our_hands(tmp_path: Path) -> None:
    components = replace(random_components(), scheduler=SD1)
    pipeline_of(components).save_pretrained(tmp_path / "model")
    theirs, mine = open_folder(tmp_path / "model"), painter_of(components)
    brief = brief_for(theirs.card)
    assert torch.equal(paint(theirs, brief)[0], paint(mine, brief)[0])


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_clip_skip(skip: int) -> None:
    """Skipping k is the final norm of the state k layers before the end. Measured: exact."""
    components = random_components()
    encoder = TextEncoder.of(components.tokenizer, components.text_encoder, clip_skip=skip)
    ids = components.tokenizer("a cat", padding="max_length", max_length=16, return_tensors="pt").input_ids
    output = components.text_encoder(ids, output_hidden_states=True)
    expected = components.text_encoder.final_layer_norm(output.hidden_states[-1 - skip])
    torch.testing.assert_close(encoder("a cat").tokens, expected, rtol=0, atol=1e-6)


def test_words_that_do_not_fit_are_reported() -> None:
    components = random_components()
    encoder = TextEncoder.of(components.tokenizer, components.text_encoder)
    assert encoder("fourteen bytes!").dropped == ""
    assert encoder("fourteen bytes! and more").dropped == "and more"
    assert encoder("熊猫熊猫熊猫").dropped == "熊猫"  # three tokens each, and room for 14


def test_words_that_do_not_fit_are_reported_by_us_alone(caplog: Any) -> None:
    components = random_components()
    theirs = logging.getLogger("transformers")  # which does not propagate
    theirs.addHandler(caplog.handler)
    try:
        assert TextEncoder.of(components.tokenizer, components.text_encoder)(
            "a very long prompt " * 9
        ).dropped
    finally:
        theirs.removeHandler(caplog.handler)
    assert caplog.messages == []
