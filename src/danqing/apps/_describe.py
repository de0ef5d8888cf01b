"""Finds prompts that would paint a given picture, and its style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from danqing.apps._session import Session
from danqing.apps._zero_shot import ScorerEnsemble, ZeroShotClassifier, pixels_on_white
from danqing.conditioning.prompt import styled_prompt_text
from danqing.core.card import Card
from danqing.core.errors import BadBrief, BadWeights
from danqing.core.source_image import SourceImage
from danqing.data.captions import article
from danqing.data.vocabulary import things


def words_of(source: SourceImage, card: Card, session: Session) -> str:
    """The prompt of a picture with its style, from its metadata, or else the best prompt by CLIP."""
    brief = source.brief
    if brief is not None and brief.prompt:
        return styled_prompt_text(brief, card) if brief.style in card.styles else brief.prompt
    return prompts_for(source.image, session.classifier(), card)[0]


def thing_in(source: SourceImage, card: Card, session: Session) -> str:
    """The subject of a picture, without its style: from its metadata, or else by CLIP."""
    words = words_of(source, card, session)
    for style in (*card.styles, *(name for both in card.styles.values() for name in both.split("/"))):
        words = words.replace(f", {style.strip()} style", "").replace(f"，{style.strip()}风格", "")
    return words


def is_doubtful(picture: Image.Image, classifier: ZeroShotClassifier) -> bool:
    """Whether a drawing may show none of the concepts of the shipped model.

    The threshold was measured for the shipped classifier only; for others the result is False.
    """
    if not isinstance(classifier, ScorerEnsemble):
        return False
    return float(classifier.classify(pixels_on_white(picture), things()).max()) < SURE


# threshold of the highest probability, measured on two drawing sets outside of all training: 604 of 1,003
# drawings of other things are below it, and 7 of the 222 drawings of known things that are named right
SURE = 0.6
AMONG = 12  # how many of the most likely things are scored again in every style
COUNT = 4


def prompts_for(
    picture: Image.Image,
    classifier: ZeroShotClassifier,
    card: Card,
    language: str = "en",
    vocabulary: Sequence[str] | None = None,
) -> list[str]:
    """Up to four different prompts for a picture, best first, with words from the training of the model.

    Each prompt has another subject, with the most likely style for it.

    language: "en" or "zh".
    vocabulary: the subjects to choose from, in `language`; None is all those of the shipped model.
    """
    names = list(things(language) if vocabulary is None else vocabulary)
    styles = list(style_words(card, language).values()) or [""]
    best, likely = joint_probabilities(picture, classifier, names, styles, language)
    order = likely.flatten().argsort(descending=True).tolist()
    pairs = [divmod(k, len(styles)) for k in order]
    first = {thing: (thing, style) for thing, style in reversed(pairs)}  # the best style of each thing
    ranked = [pair for pair in pairs if first[pair[0]] == pair]
    ranked += [pair for pair in pairs if first[pair[0]] != pair]
    return [prompt(best[thing], styles[style], language) for thing, style in ranked[:COUNT]]


def style_like(picture: Image.Image, classifier: ZeroShotClassifier, card: Card) -> str:
    """The most likely style of a picture among those of `card`, summed over all subjects.

    Raises:
        BadBrief: the model has no styles.
    """
    styles = style_words(card)
    if not styles:
        raise BadBrief(f"{card.name!r} has learned no styles to choose from: name one in words")
    _, likely = joint_probabilities(picture, classifier, things(), list(styles.values()), "en")
    return list(styles)[int(likely.sum(dim=0).argmax())]


def joint_probabilities(
    picture: Image.Image,
    classifier: ZeroShotClassifier,
    names: Sequence[str],
    styles: Sequence[str],
    language: str,
) -> tuple[list[str], Tensor]:
    """The `AMONG` most likely of `names`, and the probability of each in each style, [names styles].

    First all names are scored without a style, then these in every style: a tenth of the texts of all pairs.
    """
    pixels = pixels_on_white(picture)
    alone = classifier.classify(pixels, names)[0]
    best = [names[k] for k in alone.topk(min(AMONG, len(names))).indices.tolist()]
    prompts = [prompt(name, style, language) for name in best for style in styles]
    return best, classifier.classify(pixels, prompts)[0].view(len(best), len(styles))


def prompt(name: str, style: str, language: str = "en") -> str:
    """A prompt in the format of the training captions: "a cat, paper-cut style", "猫，剪纸风格"."""
    if language == "zh":
        return f"{name}，{style}风格" if style else name
    thing = f"{article(name)} {name}".lstrip()
    return f"{thing}, {style} style" if style else thing


def style_words(card: Card, language: str = "en") -> dict[str, str]:
    """The styles of a card: name -> words for it in `language`."""
    styles = {name: [word.strip() for word in words.split("/")] for name, words in card.styles.items()}
    return {name: words[-1 if language == "zh" else 0] for name, words in styles.items()}


def caption(picture: Image.Image, folder: str | Path, most: int = 40) -> str:
    """A caption of a picture by a captioning model such as BLIP or GIT.

    folder: its weights in the format of transformers.
    most: the longest caption, in tokens.

    Raises:
        BadWeights: the folder has no captioning model in safetensors.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise BadWeights(f"{str(folder)!r} holds no captioner ({reason}): give a folder of BLIP") from None
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture.convert("RGBA"))
    inputs = processor(images=white.convert("RGB"), return_tensors="pt")
    answer = model.eval().generate(**inputs, max_new_tokens=most)
    return str(processor.batch_decode(answer, skip_special_tokens=True)[0]).strip()
