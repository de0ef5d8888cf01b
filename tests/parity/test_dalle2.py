"""unCLIP against diffusers: the projection, the prior's walk and the whole loop on tiny random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import PriorTransformer, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel
from transformers import CLIPModel, CLIPTextModelWithProjection

from danqing.core.brief import Brief
from danqing.core.painter import Conditioning
from danqing.core.seeds import Seeds
from danqing.diffusion.prediction import Prediction
from danqing.diffusion.prior import PriorOptions, measure
from danqing.diffusion.schedule import Schedule
from danqing.diffusion.vae import IdentityVAE
from danqing.diffusion.variance import Variance
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.dalle2.clip_space import Space
from danqing.families.dalle2.painter import Dalle2Painter, random_painter
from danqing.families.dalle2.unclip import PRIORS, Decoder
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.nets.unclip import TextProjection

LENGTH, WIDTH = PRIORS["tiny"]["num_embeddings"], PRIORS["tiny"]["embedding_dim"]
PROJECTION: dict[str, Any] = {  # 3 tokens, since their masks are wrong when as long as the UNet has pixels
    "clip_embeddings_dim": WIDTH,
    "time_embed_dim": 32,
    "cross_attention_dim": 16,
    "clip_extra_context_tokens": 3,
}
NOISY = {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"}


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    return build_clip("tiny", byte_tokenizer(LENGTH)).eval()


@pytest.fixture(scope="module")
def painter() -> Dalle2Painter:
    whole = random_painter()
    return replace(whole, stage=None, card=whole.decoder.card)


def drawn(
    module: UnCLIPTextProjModel | TextProjection, seed: Any = 1, scale: Any = 0.2
) -> UnCLIPTextProjModel | TextProjection:
    """The module with all its weights, zeros too, moved at random."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=rng)
    return module.eval()


def theirs(painter: Dalle2Painter) -> CLIPTextModelWithProjection:
    """The painter's text encoder as Karlo has it."""
    text_encoder = CLIPTextModelWithProjection(painter.space.text.model.config)
    text_encoder.text_model.load_state_dict(painter.space.text.model.state_dict())
    text_encoder.text_projection.load_state_dict(painter.space.text_projection.state_dict())
    return text_encoder.eval()


def exact(**config: Any) -> UnCLIPScheduler:
    """Their scheduler with our table: in float32 1 - (1 - alpha) loses half of what little signal is left."""
    scheduler = UnCLIPScheduler(**config)
    scheduler.alphas_cumprod = Schedule.from_config(NOISY).alpha_bar
    return scheduler


def projections() -> tuple[TextProjection, UnCLIPTextProjModel]:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    expected = drawn(UnCLIPTextProjModel(**PROJECTION))
    ours = TextProjection.from_config(dict(expected.config))
    ours.load_state_dict(expected.state_dict())
    return ours, expected


def test_projection() -> None:
    """Exact."""
    ours, expected = projections()
    rng = torch.Generator().manual_seed(2)
    picture, text = torch.randn(2, 5, WIDTH, generator=rng)
    states = torch.randn(5, 7, WIDTH, generator=rng)
    with torch.no_grad():
        found = ours(picture, text, states)
        wanted = expected(
            image_embeddings=picture,
            prompt_embeds=text,
            text_encoder_hidden_states=states,
            do_classifier_free_guidance=False,
        )
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert ours.to_config()["clip_extra_context_tokens"] == 3


def test_words_are_those_of_transformers(painter: Dalle2Painter) -> None:
    """The states that are heard, the embedding and the mask; ours are asked without one, being causal."""
    text_encoder, tokenizer = theirs(painter), painter.space.text.tokenizer
    for text in ("", "a cat", "a cat on a very long red mat"):
        told = tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        with torch.no_grad():
            seen = text_encoder(**told)
        words = replace(painter.space, unit=False)(text)
        mask = told.attention_mask.bool()
        assert torch.equal(words.mask[:, :-1], mask)
        assert words.mask[:, -1].all()
        torch.testing.assert_close(words.tokens[:, -1], seen.text_embeds, rtol=0, atol=1e-5)
        states = words.tokens[:, :-1][mask]
        torch.testing.assert_close(states, seen.last_hidden_state[mask], rtol=0, atol=1e-5)
        torch.testing.assert_close(
            painter.space(text).tokens[:, -1], F.normalize(seen.text_embeds, dim=-1), rtol=0, atol=1e-5
        )


def test_pictures_are_those_of_transformers(clip: CLIPModel) -> None:
    pixels = torch.rand(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scorer = ClipScorer.of(clip, byte_tokenizer(LENGTH))
    space = Space.of(scorer, LENGTH)
    with torch.no_grad():
        wanted = clip.get_image_features(scorer.processor(pixels[:, :3])).pooler_output
    torch.testing.assert_close(replace(space, unit=False).image_embedding(pixels), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        space.image_embedding(pixels), scorer.image_embeddings(pixels), rtol=0, atol=1e-6
    )


def test_prior_hears_what_the_transformer_hears_and_no_padding(painter: Dalle2Painter) -> None:
    words = painter.space.encode_texts(["a cat", "a red apple"])
    rng = torch.Generator().manual_seed(3)
    x, t = torch.randn(2, 2, WIDTH, generator=rng), torch.tensor([10, 900])
    other = words.tokens.clone()
    other[:, :-1][~words.mask[:, :-1]] = 99.0
    with torch.no_grad():
        found = painter.prior(x, t, words)
        for k in range(2):
            wanted = painter.prior.network(
                x[:, k], t, words.tokens[:, -1], words.tokens[:, :-1], words.mask[:, :-1]
            ).predicted_image_embedding
            torch.testing.assert_close(found[:, k], wanted, rtol=0, atol=1e-6)
        deaf = painter.prior(x, t, replace(words, tokens=other))
    torch.testing.assert_close(deaf, found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_walk_of_the_prior(painter: Dalle2Painter, guidance: float) -> None:
    """`UnCLIPScheduler` with the same noise, both draws. Measured: 3e-6 of numbers up to 5."""
    options = PriorOptions(steps=7, guidance=guidance, limit=1.0, draws=2)
    prior = replace(painter.prior, options=options)
    said, nothing = painter.space("a cat"), painter.space("")
    *_, found = prior.sample(replace(said, negative=nothing), Seeds([5]))
    scheduler = exact(prediction_type="sample", clip_sample_range=1.0)
    scheduler.set_timesteps(7)
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(2, WIDTH, generator=rng)
    times = scheduler.timesteps.tolist()
    both = Conditioning.cat(nothing, nothing, said, said)
    for k, t in enumerate(times):
        with torch.no_grad():
            z = prior.network(
                torch.cat([x, x]),
                torch.full((4,), t),
                both.tokens[:, -1],
                both.tokens[:, :-1],
                both.mask[:, :-1],
            ).predicted_image_embedding
        without, told = z.chunk(2)
        then = times[k + 1] if k + 1 < len(times) else None
        guided = without + guidance * (told - without)
        x = scheduler.step(guided, t, x, prev_timestep=then, generator=rng).prev_sample
    torch.testing.assert_close(found[0], prior.network.post_process_latents(x), rtol=0, atol=3e-5)


def karlo(painter: Dalle2Painter) -> Dalle2Painter:
    """The painter with a decoder built as Karlo's, and with CLIP's embeddings at their own length."""
    torch.manual_seed(4)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=6,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        class_embed_type="identity",
        resnet_time_scale_shift="scale_shift",
    ).eval()
    projection = drawn(TextProjection.from_config(PROJECTION))
    card = painter.card.model_copy(update={"width": 8, "height": 8, "size_multiple": 8})
    decoder = replace(
        painter.decoder,
        card=card,
        network=Decoder(unet, projection),
        prediction=Prediction.EPSILON,
        schedule=Schedule.from_config(NOISY),
        vae=IdentityVAE(3),
        variance=Variance.LEARNED,
    )
    options = PriorOptions(steps=5, guidance=3.0, limit=2.0, draws=1)
    prior = replace(painter.prior, options=options)
    return replace(painter, card=card, space=replace(painter.space, unit=False), prior=prior, decoder=decoder)


@pytest.mark.filterwarnings("ignore")
def test_whole_loop(painter: Dalle2Painter) -> None:
    """`UnCLIPPipeline` up to its upsampler, with the same noise and a learned variance."""
    unclip = pytest.importorskip("diffusers.pipelines.deprecated.unclip.pipeline_unclip")
    ours = karlo(painter)
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    network = ours.decoder.network
    projection = UnCLIPTextProjModel(**PROJECTION)
    projection.load_state_dict(network.projection.state_dict())
    upsampler = UNet2DModel(
        sample_size=8, in_channels=6, out_channels=3, block_out_channels=(4,), norm_num_groups=2,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
        add_attention=False,
    )  # fmt: skip
    pipeline = unclip.UnCLIPPipeline(
        prior=ours.prior.network,
        decoder=network.unet,
        text_encoder=theirs(painter),
        tokenizer=painter.space.text.tokenizer,
        text_proj=projection,
        super_res_first=upsampler,
        super_res_last=upsampler,
        prior_scheduler=exact(prediction_type="sample", clip_sample_range=2.0),
        decoder_scheduler=exact(variance_type="learned_range"),
        super_res_scheduler=UnCLIPScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    seen = []
    upsampler.register_forward_pre_hook(
        lambda _module, _args, named: seen.append(named["sample"][:, 3:]), with_kwargs=True
    )
    rng = torch.Generator().manual_seed(9)
    noise, first = torch.randn(1, 3, 8, 8, generator=rng), torch.randn(1, WIDTH, generator=rng)
    pipeline(
        "a cat",
        prior_num_inference_steps=5,
        decoder_num_inference_steps=6,
        super_res_num_inference_steps=2,
        generator=rng,
        prior_latents=first,
        decoder_latents=noise,
        prior_guidance_scale=3.0,
        decoder_guidance_scale=2.5,
        output_type="np",
    )
    brief = Brief(prompt="a cat", seed=9, steps=6, guidance=2.5, sampler="ddpm", native=True)
    brief = brief.resolve(ours.card)
    words = ours.condition(brief)
    *_, last = ours.steps(brief, words, ours.begin(brief, words, Seeds([9])))
    torch.testing.assert_close(ours.finish(last), seen[0], rtol=0, atol=1e-4)
    assert seen[0].std() > 0.1


def test_a_fresh_prior_of_diffusers_is_refused_and_measured(painter: Dalle2Painter) -> None:
    network = PriorTransformer(**PRIORS["tiny"])
    data = torch.randn(40, WIDTH) * 3 + 1
    measure(network, data)
    prior = replace(painter.prior, network=network)
    torch.testing.assert_close(network.post_process_latents(data), prior.denormalise(data))
    assert not network.clip_mean.requires_grad
