"""Imagen against text encoders of transformers, thresholding and DeepFloyd IF pipelines of diffusers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel

from danqing.core.brief import Brief, ResolvedBrief
from danqing.core.seeds import Seeds
from danqing.diffusion.cascade import Cascade
from danqing.diffusion.painter import DiffusionPainter
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.thresholding import DynamicThresholding
from danqing.diffusion.variance import Variance
from danqing.families import open_painter
from danqing.families.imagen.deepfloyd import noised_as, super_resolution
from tests.text_encoders import folder_of, reader, t5

SCHEDULER: dict[str, Any] = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "prediction_type": "epsilon",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.5,
}
NOISING: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2"}


def unet(channels: int, size: int, **fields: Any) -> UNet2DConditionModel:
    """A UNet of IF, tiny."""
    config = {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": 6,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "attention_head_dim": 8,
        "cross_attention_dim": 32,
        "encoder_hid_dim": 32,
        "encoder_hid_dim_type": "text_proj",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "resnet_skip_time_act": True,
        "only_cross_attention": True,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return UNet2DConditionModel(**{**config, **fields}).eval()


@pytest.fixture(scope="module")
def pipelines() -> tuple[IFPipeline, IFSuperResolutionPipeline]:
    """Both stages of IF, 8 pixels and 16, with one T5."""
    tokenizer, text_encoder = t5()
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }
    base = IFPipeline(unet=unet(3, 8), scheduler=DDPMScheduler(**SCHEDULER), **parts)
    further = IFSuperResolutionPipeline(
        unet=unet(6, 16, class_embed_type="timestep"),
        scheduler=DDPMScheduler(**SCHEDULER),
        image_noising_scheduler=DDPMScheduler(**NOISING),
        **parts,
    )
    for pipeline in (base, further):
        pipeline.set_progress_bar_config(disable=True)
    return base, further


@pytest.fixture(scope="module")
def cascade(
    pipelines: tuple[IFPipeline, IFSuperResolutionPipeline], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The same two from a folder, as IF is published."""
    folder = tmp_path_factory.mktemp("if")
    for pipeline, place in zip(pipelines, (folder, folder / "stage_1"), strict=True):
        pipeline.save_pretrained(place)
    return open_painter(str(folder))


def resolved(painter: DiffusionPainter | Cascade, steps: int, guidance: float) -> ResolvedBrief:
    asked = {"prompt": "a red cat", "negative_prompt": "blue", "seed": 9, "native": True}
    return Brief(**asked, steps=steps, guidance=guidance, sampler="ddpm").resolve(painter.card)


@pytest.mark.parametrize("p", [0.95, 0.995])
@pytest.mark.parametrize("cap", [1.0, 1.5, 1e9])
def test_dynamic_thresholding(p: float, cap: float) -> None:
    """Measured: exact."""
    scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=p, sample_max_value=cap)
    clean = 2 * torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    mine, theirs = DynamicThresholding(p, cap)(clean), scheduler._threshold_sample(clean)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    if cap == 1.0:
        assert torch.equal(mine, theirs)
        assert torch.equal(mine, clean.clamp(-1, 1))


def test_no_cap_is_a_cap_out_of_reach() -> None:
    clean = 5 * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(DynamicThresholding(0.9)(clean), DynamicThresholding(0.9, 1e9)(clean))


def test_t5_states_are_those_of_transformers() -> None:
    """Normalised to zero mean and unit variance, and zero where there are no words. Measured: 2e-7."""
    tokenizer, text_encoder = t5()
    encoder = reader("t5")
    tokens = tokenizer(["a red cat"], padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        states = text_encoder(
            **{name: tokens[name] for name in ("input_ids", "attention_mask")}
        ).last_hidden_state
    count = int(tokens.attention_mask.sum())
    centred = states - states.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    mine = encoder("a red cat")
    torch.testing.assert_close(mine.tokens[:, :count], expected[:, :count], rtol=0, atol=1e-5)
    assert not mine.tokens[:, count:].any()


@pytest.mark.parametrize("guidance", [1.0, 7.0])
def test_the_base_of_if(
    pipelines: tuple[IFPipeline, IFSuperResolutionPipeline], cascade: Cascade, guidance: float
) -> None:
    """Measured: 2.3e-5, in float32 against a float64 schedule."""
    compare_bases(pipelines[0], cascade.base, guidance)


def test_a_learned_variance_is_not_heard_where_it_is_fixed(
    pipelines: tuple[IFPipeline, IFSuperResolutionPipeline], cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = DDPMScheduler(**{**SCHEDULER, "variance_type": "fixed_small"})
    monkeypatch.setattr(pipelines[0], "scheduler", scheduler)
    compare_bases(pipelines[0], replace(cascade.base, variance=Variance.SMALL), 7.0)


def compare_bases(pipeline: IFPipeline, painter: DiffusionPainter, guidance: float) -> None:
    brief, seeds = resolved(painter, 5, guidance), Seeds([9])
    words = painter.condition(brief)
    *_, last = painter.steps(brief, words, painter.begin(brief, words, seeds))
    theirs = pipeline(
        brief.prompt,
        negative_prompt=brief.negative_prompt,
        num_inference_steps=5,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(9),
        clean_caption=False,
        output_type="pt",
    ).images
    torch.testing.assert_close(last.state, theirs, rtol=0, atol=1e-4)


def test_the_second_stage_of_if(
    pipelines: tuple[IFPipeline, IFSuperResolutionPipeline], cascade: Cascade
) -> None:
    """The same noise in the same order: the canvas, the small picture's veil, the steps. Measured: 2e-5."""
    stage = cascade.stages[0]
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1
    brief, seeds = resolved(stage.painter, 5, 4.0), Seeds([9])
    plain = stage.painter.condition(brief)
    canvas = stage.painter.begin(brief, plain, seeds)
    words = stage.with_low_resolution(plain, small, torch.tensor([0.25]), seeds.normal(3, 16, 16))
    *_, last = stage.painter.steps(brief, words, canvas)
    theirs = pipelines[1](
        brief.prompt,
        image=small,
        negative_prompt=brief.negative_prompt,
        num_inference_steps=5,
        guidance_scale=4.0,
        noise_level=250,
        generator=torch.Generator().manual_seed(9),
        clean_caption=False,
        output_type="pt",
    ).images
    torch.testing.assert_close(last.state, theirs, rtol=0, atol=1e-4)


def test_noise_of_the_second_stage() -> None:
    """Measured: 5e-6."""
    picture, noise = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler, augment = DDPMScheduler(**NOISING), noised_as(Schedule.from_config(NOISING))
    for number in (0, 250, 999):
        theirs = scheduler.add_noise(picture, noise, torch.tensor([number] * 3))
        mine = augment(picture, torch.full((3,), number / 1000), noise)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=3e-5)


def test_a_folder_of_if_paints_both_stages(cascade: Cascade) -> None:
    card = cascade.card
    assert (card.family, card.width, card.size_multiple, cascade.stages[0].factor) == ("imagen", 16, 4, 2)
    assert "no safety checker and no watermark" in card.summary
    brief = resolved(cascade, 3, 2.0)
    words = cascade.condition(brief)
    canvases = list(cascade.steps(brief, words, cascade.begin(brief, words, Seeds([1]))))
    assert {canvas.state.shape[-1] for canvas in canvases} == {8, 16}
    assert cascade.finish(canvases[-1]).isfinite().all()


def test_the_base_alone_and_the_wrong_stage(
    pipelines: tuple[IFPipeline, IFSuperResolutionPipeline], tmp_path: Path
) -> None:
    pipelines[0].save_pretrained(tmp_path / "one")
    painter = open_painter(str(tmp_path / "one"))
    assert (painter.card.width, painter.stages) == (8, ())
    pipelines[0].save_pretrained(tmp_path / "one" / "stage_1")
    with pytest.raises(Exception, match="holds IFPipeline, not IFSuperResolutionPipeline"):
        open_painter(str(tmp_path / "one"))


def test_the_sentencepiece_file_is_missed(tmp_path: Path) -> None:
    folder = folder_of("t5", tmp_path / "text_encoder")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "IFPipeline"}))
    (folder.parent / "tokenizer").mkdir()
    with pytest.raises(Exception, match=r"no tokenizer.json or spiece.model in '.*tokenizer'"):
        open_painter(str(tmp_path))


def test_a_stage_is_enlarged_as_if_does(cascade: Cascade) -> None:
    small = torch.randn(1, 3, 8, 8)
    stage = super_resolution(cascade.stages[0].painter, 2, noised_as(Schedule.from_config(NOISING)))
    expected = torch.nn.functional.interpolate(small, (16, 16), mode="bilinear", align_corners=True)
    torch.testing.assert_close(stage.upsample(small), expected, rtol=0, atol=1e-6)
