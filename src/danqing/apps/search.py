"""Find pictures in a folder by words, or by a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from danqing.apps._inputs import AppInputs
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.errors import BadBrief
from danqing.core.field_groups import Text
from danqing.core.image_ref import ImageLookup, ImageRef
from danqing.core.progress import ProgressCallback

if TYPE_CHECKING:
    from danqing.apps._search import SearchResult


class Search(AppInputs):
    """Find the pictures of a folder that answer best to words, or that look most like a picture.

    The score is CLIP's cosine; the shipped CLIP is small and has seen stickers only, so where the words name
    one of the 120 things that the judge knows, the judge's word counts too. For photos give another --model.
    """

    positional: ClassVar[tuple[str, ...]] = ("folder", "words")

    folder: ImageRef = Field(description="where to look, also below it", json_schema_extra={"local": True})
    words: Text = Field(default="", description="what to look for, in English or Chinese")
    like: ImageRef | None = Field(default=None, description="a picture to look for the like of")
    top: int = Field(default=10, ge=1, description="how many pictures")
    model: Text | None = Field(
        default=None,
        description="a folder of another CLIP of transformers; the shipped one if not given",
        json_schema_extra={"local": True},
    )

    def image_refs(self) -> list[ImageRef]:
        """The picture of the query."""
        return [] if self.like is None else [self.like]


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Search:
    """Parse the inputs; errors are reported before a model is opened."""
    from danqing.apps._image_files import pictures_in
    from danqing.apps._parse import parse

    inputs = parse(Search, values, session, image_lookup)
    if inputs.words.strip() and inputs.like is not None:
        raise BadBrief("words and --like are given: look for one of them")
    if not inputs.words.strip() and inputs.like is None:
        raise BadBrief("say what to look for: words, or a picture with --like")
    place = inputs.folder.path
    if place is not None and not place.exists():
        raise BadBrief(f"no folder at {inputs.folder.name!r}: check the name")
    pictures_in([inputs.folder])
    return inputs


@app(
    Search,
    output="search",
    prepare=_prepare,
    examples=(
        'danqing search paintings "a red apple"',
        "danqing search paintings 一只猫 --top 4 --out cats.png",
        "danqing search paintings --like cat.png",
    ),
)
def search(inputs: Search, session: Session, progress: ProgressCallback) -> SearchResult:  # noqa: ARG001
    """The pictures of a folder, best match first (CLIP, arXiv 2103.00020).

    Raises:
        BadBrief: the request has neither words nor a picture, or both, or the folder has no pictures.
    """
    from danqing.apps._search import search_by_picture, search_by_words

    if inputs.like is not None:
        scorer = session.clip_scorer(inputs.model)
        return search_by_picture([inputs.folder], scorer, inputs.like, inputs.top)
    return search_by_words([inputs.folder], session.classifier(inputs.model), inputs.words, inputs.top)
