"""Tell how well words fit pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from danqing.apps._image_files import UnreadableFile
    from danqing.apps._search import Hit


class Score(AppInputs):
    """Tell how well words fit pictures, the best first, with the scores of `danqing search`."""

    positional: ClassVar[tuple[str, ...]] = ("pictures", "words")

    pictures: tuple[ImageRef, ...] = Field(min_length=1, description="pictures, or folders of them")
    words: Text = Field(min_length=1, description="the words, behind the pictures")
    model: Text | None = Field(
        default=None,
        description="a folder of another CLIP of transformers; the shipped one if not given",
        json_schema_extra={"local": True},
    )

    def image_refs(self) -> list[ImageRef]:
        """None, because a picture that cannot be read is reported later, in its row of the result."""
        return []


def _prepare(values: Mapping[str, Any], session: Session, image_lookup: ImageLookup) -> Score:  # noqa: ARG001
    """Parse the inputs, and separate words from pictures."""
    from danqing.apps._parse import validate

    if not values.get("pictures"):
        raise BadBrief('give pictures and then words: danqing score cat.png "a cat"')
    return validate(Score, values, image_lookup)


@app(Score, output="rows", prepare=_prepare, examples=('danqing score cat.png dog.png "a cat, flat style"',))
def score(
    inputs: Score,
    session: Session,
    progress: ProgressCallback,  # noqa: ARG001
) -> Sequence[Hit | UnreadableFile]:
    """The pictures with their scores. Raises BadBrief if there are no pictures."""
    from danqing.apps._search import search_by_words

    return search_by_words(inputs.pictures, session.classifier(inputs.model), inputs.words).rows
