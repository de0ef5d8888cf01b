"""DALL-E: a transformer predicts the tokens of a picture after those of its text.

Paper: Ramesh et al., Zero-Shot Text-to-Image Generation, arXiv 2102.12092; with classifier-free guidance of
logits in addition.
Differs: it is small and bilingual, and paints transparency. Fields of a brief have these meanings: strength
in a redraw is the fraction of rows, from the bottom, that are painted anew; chaos raises the temperature; the
negative prompt replaces the empty text in guidance. Of several candidates for each seed, CLIP keeps the one
that matches the prompt best (section 2.4).
Licences: code Apache-2.0; the shipped weights were trained from scratch on openly licensed pictures (see
NOTICE). A folder's VAE may be OpenAI's published encoder.pkl and decoder.pkl (modified MIT).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import CLIPTokenizer

from danqing.conditioning.encode import encode
from danqing.conditioning.prompt import parse_negative, plain_text, styled_prompt
from danqing.conditioning.token_ids import TokenIds
from danqing.core.brief import ResolvedBrief
from danqing.core.card import Can, Card, find_card
from danqing.core.errors import BadBrief, BadWeights, NotFinite
from danqing.core.painter import NO_IMAGES, Canvas, Conditioning, InputImages
from danqing.core.registry import family
from danqing.core.seeds import Seeds
from danqing.families import shipped_clip_scorer
from danqing.families.clip import ClipScorer
from danqing.families.dalle1.presets import DISCRETE_VAES as DISCRETE_VAES
from danqing.families.dalle1.presets import TRANSFORMERS as TRANSFORMERS
from danqing.families.dalle1.token_sampling import (
    DEFAULT,
    GuidedTransformer,
    Sampling,
    draw_tokens,
    gumbel_of,
)
from danqing.families.dalle1.vae import fingerprint, open_discrete_vae
from danqing.nets.discrete_vae import DiscreteVAE
from danqing.nets.placement import device_of, move
from danqing.nets.token_transformer import TokenTransformer
from danqing.weights.components import read_tokenizer
from danqing.weights.pretrained import read_json, read_module, replacing_folder, write_json, write_module
from danqing.weights.shipped import shipped_part
from danqing.weights.tensor_files import first_line

_BLANK = -1  # in the place of a token that is not drawn yet
_STEM = "model"


@dataclass(eq=False)
class TokenPainter:
    """Paints row by row. The state of a canvas is tokens [n candidates side side], -1 for those to come.

    card: the card of the model.
    vae: encodes pixels to tokens and decodes them.
    transformer: predicts the tokens.
    tokenizer: the tokenizer of the prompt.
    sampling: how tokens are drawn.
    scorer: chooses one of several candidates; None allows only one candidate.
    """

    card: Card
    vae: DiscreteVAE
    transformer: TokenTransformer
    tokenizer: CLIPTokenizer
    sampling: Sampling = DEFAULT
    scorer: ClipScorer | None = None

    def __post_init__(self) -> None:
        self.vae.eval().requires_grad_(False)
        self.transformer.eval().requires_grad_(False)

    @property
    def text(self) -> TokenIds:
        """The encoder of the prompt."""
        return TokenIds(self.tokenizer, self.transformer.config.text)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.transformer.config.side * self.vae.config.factor

    @property
    def device(self) -> torch.device:
        """The device of its networks."""
        return device_of(self.transformer)

    def place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """See `Painter.place`."""
        move(device, dtype, self.vae, self.transformer)
        if self.scorer is not None:
            self.scorer.place(device, dtype)

    def condition(self, brief: ResolvedBrief, images: InputImages = NO_IMAGES) -> Conditioning:
        """The token ids of the prompt and the negative prompt, and the tokens [1 1 side side] of a picture.

        For several input pictures, the probabilities of tokens are mixed by weight, and the most likely token
        is taken.

        Raises:
            BadBrief: a prompt has BREAK or weights of words, or the strength is less than one row.
        """
        image = self._picture(images.to(self.device))
        side = self.transformer.config.side
        rows = side - self._kept_rows(brief, image)
        prompt, negative = styled_prompt(brief, self.card), parse_negative(brief)
        if any(len(part.chunks) > 1 for each in (prompt, negative) for part in each.parts):
            raise BadBrief(f"model {self.card.name!r} reads words in one go: leave BREAK out")
        return replace(encode(self.text, prompt, negative, rows), image=image).to(self.device)

    def begin(self, brief: ResolvedBrief, conditioning: Conditioning, seeds: Seeds) -> Canvas:
        """A canvas without tokens, but with the upper rows of an input picture that `strength` keeps.

        Raises:
            BadBrief: the size is not that of the network, or the strength is less than one row.
        """
        if (brief.width, brief.height) != (self.size, self.size):
            raise BadBrief(
                f"model {self.card.name!r} paints {self.size}x{self.size} only, not "
                f"{brief.width}x{brief.height}: leave the size out"
            )
        side = self.transformer.config.side
        count = self.sampling.candidates if self.scorer else 1
        state = torch.full((len(seeds), count, side, side), _BLANK, device=self.device)
        kept = self._kept_rows(brief, conditioning.image)
        if conditioning.image is not None:
            state[:, :, :kept] = conditioning.image[:, :, :kept].long()
        return Canvas(state, seeds, step=0, of=side - kept)

    @torch.no_grad()
    def steps(self, brief: ResolvedBrief, conditioning: Conditioning, canvas: Canvas) -> Iterator[Canvas]:
        """One canvas per row of tokens; the last one has only the best candidate.

        Raises:
            NotFinite: the output of the transformer is NaN or infinite.
        """
        conditioning = conditioning.expand(len(canvas.seeds))
        stages = dict(conditioning.stages)
        kept = self.transformer.config.side - canvas.of
        for step in range(canvas.of):
            if step in stages:
                network = GuidedTransformer(self.transformer, stages[step], brief.guidance)
                logits = network.begin(canvas.state[:, :, : kept + step].flatten(2))
            row, logits = self._row(network, logits, brief, canvas, kept + step)
            state = canvas.state.clone()
            state[:, :, kept + step] = row
            canvas = replace(canvas, state=state, step=step + 1)
            yield canvas if canvas.step < canvas.of else replace(canvas, state=self._best(brief, state))

    def preview(self, canvas: Canvas) -> Tensor:
        """The rows of the first candidate so far, [n 3 h w] in [0, 1]; the rest is white."""
        pixels = self.vae.pictures(canvas.state[:, 0].clamp(min=0))[:, :3]
        blank = F.interpolate((canvas.state[:, :1] == _BLANK).float(), scale_factor=self.vae.config.factor)
        return torch.where(blank > 0, 1.0, (pixels + 1) / 2).clamp(0, 1).cpu()

    def finish(self, canvas: Canvas) -> Tensor:
        """The pictures [n c h w] in [-1, 1].

        Raises:
            NotFinite: the output of the VAE is NaN or infinite.
        """
        pixels = self.vae.pictures(canvas.state[:, 0])
        if not pixels.isfinite().all():
            raise NotFinite("the VAE gave NaN or infinite values: check the weights")
        return pixels.cpu()

    def upscale(self, pixels: Tensor) -> Tensor:
        """The pictures unchanged, because there is no learned upscaler."""
        return pixels

    def _row(
        self, network: GuidedTransformer, logits: Tensor, brief: ResolvedBrief, canvas: Canvas, row: int
    ) -> tuple[Tensor, Tensor]:
        """The tokens of a row [n candidates side], and the logits of the token after it."""
        side, count = self.transformer.config.side, canvas.state.shape[1]
        noise = gumbel_of(canvas.seeds.normal(count, side, logits.shape[-1])).to(logits.device)
        warmer = replace(self.sampling, temperature=self.sampling.temperature * (1 + brief.chaos / 100))
        tokens = []
        for k in range(side):
            if not logits.isfinite().all():
                raise NotFinite(
                    f"step {canvas.step + 1} of {canvas.of} gave NaN or infinite values: lower the guidance "
                    f"(now {brief.guidance:g}) or check the weights"
                )
            tokens.append(draw_tokens(logits, noise[:, :, k], warmer))
            at = row * side + k
            if at + 1 < side**2:
                logits = network.go_on(tokens[-1], at)
        return torch.stack(tokens, dim=2), logits

    def _best(self, brief: ResolvedBrief, state: Tensor) -> Tensor:
        """For each picture the candidate [n 1 side side] with the best CLIP score for the prompt."""
        if self.scorer is None or state.shape[1] == 1:
            return state[:, :1]
        text = plain_text(brief, self.card)
        best = [self.scorer.rank(self.vae.pictures(candidates), text)[0] for candidates in state]
        return state[torch.arange(len(state)), best][:, None]

    def _picture(self, images: InputImages) -> Tensor | None:
        if not images.references:
            return None if images.image is None else self.vae.tokens(images.image)[:, None].float()
        with torch.no_grad():
            likely = [self.vae.logits(picture).softmax(dim=1) for picture in images.references]
        shares = torch.stack([share * each for share, each in zip(images.weights, likely, strict=True)])
        return shares.sum(dim=0).argmax(dim=1)[:, None].float()

    def _kept_rows(self, brief: ResolvedBrief, image: Tensor | None) -> int:
        """How many rows of tokens are kept from the input picture.

        Raises:
            BadBrief: the strength keeps all rows.
        """
        side = self.transformer.config.side
        if image is None or brief.strength is None:
            return 0
        anew = math.floor(side * brief.strength + 1e-9)
        if anew < 1:
            raise BadBrief(
                f"strength {brief.strength:g} of {side} rows is less than one row, which would copy the "
                f"picture: use {1 / side:.2g} or more"
            )
        return side - anew


@family("dalle1")
def open_weights(folder: Path) -> TokenPainter:
    """Open a painter from a folder, with the shipped CLIP as its scorer where there is one.

    Raises:
        BadWeights: the files cannot be used, for example because the transformer was trained with another
            VAE; the message names the file and the problem.
    """
    vae = open_discrete_vae(folder / "codec")
    config = read_json(folder / "transformer" / "config.json")
    transformer = read_module(
        folder / "transformer",
        lambda fields: TokenTransformer.from_config({k: v for k, v in fields.items() if k != "codec"}),
    )
    if config.get("codec") != fingerprint(vae):
        raise BadWeights(
            f"{str(folder / 'transformer')!r} learned the tokens of another VAE than the one in "
            f"{str(folder / 'codec')!r}: fetch the whole folder again"
        )
    try:
        sampling = Sampling(**read_json(folder / "sampling.json"))
    except (TypeError, ValueError) as error:
        raise BadWeights(
            f"{str(folder / 'sampling.json')!r} is wrong ({first_line(error)}): mend it"
        ) from None
    tokenizer = read_tokenizer(folder / "tokenizer")
    if len(tokenizer) != transformer.config.words:
        raise BadWeights(
            f"{str(folder / 'tokenizer')!r} has {len(tokenizer)} tokens, the transformer knows "
            f"{transformer.config.words}"
        )
    card = find_card(folder) or card_of(folder.name, vae, transformer)
    return TokenPainter(card, vae, transformer, tokenizer, sampling, shipped_clip_scorer())


def save(painter: TokenPainter, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the painter's folder, completely or not at all; the scorer is not part of it.

    Raises:
        BadWeights: a value does not fit into `dtype`.
        DanqingError: the folder cannot be written.
    """
    config = {**painter.transformer.to_config(), "codec": fingerprint(painter.vae)}
    with replacing_folder(folder) as draft:
        write_module(painter.vae, painter.vae.to_config(), draft / "codec", _STEM, dtype)
        write_module(painter.transformer, config, draft / "transformer", _STEM, dtype)
        painter.tokenizer.save_pretrained(draft / "tokenizer")
        write_json(asdict(painter.sampling), draft / "sampling.json")
        write_json(painter.card.model_dump(mode="json"), draft / "card.json")


def card_of(name: str, vae: DiscreteVAE, transformer: TokenTransformer, **fields: Any) -> Card:
    """The card of a model from its networks alone."""
    side = transformer.config.side * vae.config.factor
    alpha = {Can.ALPHA} if vae.config.channels == 4 else set()
    facts: dict[str, Any] = {
        "summary": f"a DALL-E for pictures of {side} x {side}",
        **dict.fromkeys(("width", "height", "size_multiple"), side),
        "licence": "Apache-2.0",
        "steps": transformer.config.side,
        "guidance": 2.0,
        "sampler": "",
        "can": {Can.WORDS, Can.NEGATIVE, Can.REDRAW} | alpha,
        **fields,
    }
    return Card(name=name, family="dalle1", paper="2102.12092", year=2021, **facts)


def fresh_transformer(preset: str, vae: DiscreteVAE, tokenizer: CLIPTokenizer) -> TokenTransformer:
    """A transformer with random weights for the tokens of `vae` and the vocabulary of `tokenizer`."""
    config = replace(TRANSFORMERS[preset], words=len(tokenizer), vocab=vae.config.vocab)
    return TokenTransformer(config)


def random_painter(preset: str = "tiny", seed: int = 0, scorer: ClipScorer | None = None) -> TokenPainter:
    """A painter with random weights and the shipped tokenizer, for tests."""
    tokenizer = read_tokenizer(shipped_part("clip"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = DiscreteVAE(DISCRETE_VAES[preset])
        transformer = fresh_transformer(preset, vae, tokenizer)
    return TokenPainter(card_of(preset, vae, transformer), vae, transformer, tokenizer, scorer=scorer)
