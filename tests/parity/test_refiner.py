"""Stable Diffusion XL with its refiner, against diffusers' two pipelines one behind the other."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file

from danqing import Picture, Session, paint
from danqing.core.errors import BadBrief
from danqing.core.painter import InputImages
from danqing.core.seeds import Seeds
from danqing.diffusion.samplers import SAMPLERS
from danqing.families.stable_diffusion.painter import open_weights, painter_of
from danqing.families.stable_diffusion.refiner import with_refiner
from danqing.interfaces.cli.show import _command
from danqing.weights.diffusers_folder import derived_card
from tests.parity.test_inpainting import strength_for
from tests.parity.test_sdxl import brief_for, pipeline_of
from tests.single_files import REFINER, SD1, SDXL, original, tiny

BASE, LAST = tiny(SDXL), tiny(REFINER)


def refiner_pipeline(scheduler: Any = None) -> Any:
    pipeline = StableDiffusionXLImg2ImgPipeline(
        vae=LAST.vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=LAST.text_encoder,
        tokenizer_2=LAST.tokenizer,
        unet=LAST.unet,
        scheduler=scheduler or DDIMScheduler.from_config(LAST.scheduler),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def finish(painter: Any, brief: Any, images: Any = None) -> Any:
    words = painter.condition(brief, images or InputImages())
    canvas = painter.begin(brief, words, Seeds.of(brief.seed, 1))
    canvases = list(painter.steps(brief, words, canvas))
    assert [canvas.step for canvas in canvases] == list(range(1, canvas.of + 1))
    return canvases[-1].state


@pytest.mark.parametrize(("steps", "share"), [(5, 0.8), (4, 0.5), (7, 0.63)])
@pytest.mark.parametrize("negative", ["blue", ""], ids=["negative", "none"])
def test_the_last_steps_are_the_refiners(steps: Any, share: Any, negative: Any) -> None:
    painter = painter_of(BASE)
    brief = brief_for(painter.card, steps=steps, negative_prompt=negative)
    both = with_refiner(painter, painter_of(LAST), share)
    shared = {
        "prompt": brief.prompt,
        "negative_prompt": negative or None,
        "num_inference_steps": steps,
        "guidance_scale": brief.guidance,
        "output_type": "latent",
    }
    noise = Seeds.of(brief.seed, 1).normal(4, 8, 8)
    halfway = pipeline_of(BASE)(
        **shared, height=brief.height, width=brief.width, latents=noise, denoising_end=share
    ).images
    expected = refiner_pipeline()(**shared, image=halfway, denoising_start=share).images
    found = finish(both, brief)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert (found - finish(painter, brief)).abs().max() > 1e-2


def test_the_refiner_alone_redraws() -> None:
    """One text encoder, and a score in the place of the result's size."""
    painter = painter_of(LAST)
    brief = brief_for(painter.card, steps=5, strength=strength_for(painter.schedule, 0.6))
    source = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = refiner_pipeline()(
        brief.prompt,
        negative_prompt=brief.negative_prompt,
        image=painter.vae.encode(source),
        strength=0.6,
        num_inference_steps=5,
        guidance_scale=brief.guidance,
        generator=torch.Generator().manual_seed(brief.seed),
        output_type="latent",
    ).images
    torch.testing.assert_close(finish(painter, brief, InputImages(source)), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_every_sampler_hands_over(sampler: Any) -> None:
    painter = painter_of(BASE)
    both = with_refiner(painter, painter_of(LAST), 0.6)
    brief = brief_for(painter.card, sampler=sampler, steps=4, prompt="a [red:blue:0.8] panda")
    found = finish(both, brief)
    assert found.isfinite().all()
    assert (found - finish(painter, brief)).abs().max() > 1e-3


def test_words_that_change_after_the_switch() -> None:
    """Steps are counted from the first of all, not from the refiner's first."""
    both = with_refiner(painter_of(BASE), painter_of(LAST), 0.5)
    brief = brief_for(both.card, steps=4, prompt="a red panda")
    late = brief.model_copy(update={"prompt": "a [red panda:fox:0.75]"})
    never = brief.model_copy(update={"prompt": "a [red panda:fox:1]"})
    assert (finish(both, late) - finish(both, never)).abs().max() > 1e-4


def test_folder_and_file(tmp_path: Path) -> None:
    """The refiner as diffusers saves it, and as one file, whose names are those of diffusers' converter."""
    refiner_pipeline().save_pretrained(tmp_path / "folder")
    tensors = {name: t.contiguous() for name, t in original(LAST, REFINER).items()}
    save_file(tensors, tmp_path / "refiner.safetensors")
    LAST.tokenizer.save_pretrained(tmp_path / "tokenizer")
    converted = convert_ldm_unet_checkpoint(tensors, dict(LAST.unet.config))
    assert converted.keys() == LAST.unet.state_dict().keys()
    brief = brief_for(painter_of(LAST).card, negative_prompt="")
    expected = finish(painter_of(LAST), brief)
    for name in ("folder", "refiner.safetensors"):
        painter = open_weights(tmp_path / name)
        assert painter.aesthetics == (6.0, 2.5)
        assert not painter.zero_negative
        assert torch.equal(finish(painter, brief), expected), name


def test_pictures_keep_their_refiner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, parts, kind in (("xl", BASE, SDXL), ("refiner", LAST, REFINER), ("one", tiny(SD1), SD1)):
        tensors = {key: t.contiguous() for key, t in original(parts, kind).items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
    LAST.tokenizer.save_pretrained(tmp_path / "tokenizer")
    session = Session()
    fields = {"model": "xl.safetensors", "width": 64, "height": 64, "steps": 3, "seed": 1, "session": session}
    [plain] = paint("a fox", **fields)
    [both] = paint("a fox", refiner="refiner.safetensors", refiner_at=0.6, **fields)
    assert plain.image.tobytes() != both.image.tobytes()
    both.save("kept.png")
    line = shlex.split(_command(Picture.open("kept.png")))
    assert line[line.index("--refiner") + 1 :][:3] == ["refiner.safetensors", "--refiner-at", "0.6"]
    [again] = paint("", settings_of="kept.png", session=session)
    assert again.image.tobytes() == both.image.tobytes()
    with pytest.raises(BadBrief, match="unknown model 'nowhere'"):
        paint("a fox", refiner="nowhere", **fields)
    with pytest.raises(BadBrief, match=r"takes no control|refiner"):
        paint("a fox", refiner="gan", **fields)


def test_turbo_paints_in_four_steps() -> None:
    """By its scheduler, which no other model has."""
    theirs = EulerDiscreteScheduler().config
    turbo = {**theirs, "_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
    card = derived_card("turbo", BASE.unet, BASE.vae, None, turbo)
    assert (card.steps, card.guidance, card.sampler) == (4, 1.0, "lcm")
    card = derived_card("xl", BASE.unet, BASE.vae, None, dict(theirs))
    assert (card.steps, card.guidance) == (25, 5.0)
    parts = replace(BASE, card=derived_card("turbo", BASE.unet, BASE.vae, None, turbo))
    painter = painter_of(parts)
    assert finish(painter, brief_for(painter.card, steps=None, sampler=None)).isfinite().all()
