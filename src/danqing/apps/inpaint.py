"""Repaint a part of a picture, or mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from danqing.apps._control_inputs import ControlInputs
from danqing.apps._inputs import MaskInputs, optional_words
from danqing.apps._registry import app
from danqing.apps._session import Session
from danqing.core.card import Can
from danqing.core.errors import BadBrief, shorten
from danqing.core.field_groups import Text
from danqing.core.picture import Picture
from danqing.core.progress import ProgressCallback

if TYPE_CHECKING:
    from danqing.apps._mask_image import Mask


class Inpaint(ControlInputs, MaskInputs):
    """Repaint a part of a picture; the rest stays byte for byte."""

    needs: ClassVar[frozenset[Can]] = frozenset({Can.INPAINT})

    prompt: Text = optional_words()
    where: Text | None = Field(default=None, description="words for the part to repaint, instead of a mask")
    damage: Literal["scratches", "holes"] | None = Field(
        default=None, description="scratches or holes: find them and mend them, instead of a mask"
    )
    show_mask: bool = Field(default=False, description="only show in red what would be repainted")
    feather: int = Field(
        default=8,
        ge=0,
        le=128,
        description="pixels over which the new part fades in",
        json_schema_extra={"unit": "pixels"},
    )
    strength: float = Field(
        default=1.0, gt=0, le=1, description="how far to leave what was there: 1 forgets it"
    )

    def check_pictures(self) -> None:
        """As the base class; also check that exactly one field says what to repaint."""
        ways = [way for way in (self.mask, self.where, self.damage) if way is not None]
        if len(ways) != 1:
            raise BadBrief(
                f"{len(ways)} ways to say what to repaint: give one of a mask, words (where) or damage"
            )
        super().check_pictures()


@app(
    Inpaint,
    examples=(
        'danqing inpaint cat.png "a cat, cartoon style" --mask mask.png',
        'danqing inpaint scene.png "an owl, flat style" --where "the cat"',
        "danqing inpaint photo.png --damage scratches",
        "danqing inpaint photo.png --damage scratches --show-mask",
    ),
)
def inpaint(inputs: Inpaint, session: Session, progress: ProgressCallback) -> Iterator[Picture]:
    """Repaint a part of `image`, given by a `mask` (see `_mask_image`), a text `where`, or `damage`.

    `damage` finds scratches or holes. `invert_mask` repaints the other part. Without a prompt, the prompt in
    the metadata of the picture is used, or none. If the model was trained on drawings only, small parts of a
    photo are filled from their surroundings.

    Raises:
        BadBrief: the model does not support the request, or the mask is empty, full or of another size.
        BadPicture: a picture cannot be read.
    """
    from danqing.apps._canvas_fit import feather
    from danqing.apps._inpaint import inpaint_region
    from danqing.apps._job import Job
    from danqing.apps._photo_fill import fill_region, fills, mask_preview

    image, mask = inputs.image.source.image, _mask(inputs, session)
    if inputs.mask is None:
        inputs.add_notes(mask.note)
    if inputs.show_mask:
        return mask_preview(inputs, session, mask.region)
    if fills(inputs, session):
        return fill_region(inputs, session, mask.region)
    job = Job.start("inpaint", inputs, session, progress, image=inputs.image)
    thin = inputs.damage is not None and "feather" not in inputs.model_fields_set
    cover = feather(mask.region, 1 if thin else inputs.feather)
    return inpaint_region(job, image, mask.region, cover, **job.words())


def _mask(inputs: Inpaint, session: Session) -> Mask:
    """The mask, from the field that the request uses for it."""
    from danqing.apps._mask_image import checked_region
    from danqing.apps._masks import DAMAGE, region_of
    from danqing.apps._photo_fill import photo_damage
    from danqing.apps._photos import is_photo

    image = inputs.image.source.image
    if inputs.mask is not None:
        return inputs.read_mask()
    if inputs.where is not None:
        region = region_of(image, inputs.where, session.classifier())
        return checked_region(region, f"the part {shorten(inputs.where)!r}", invert=inputs.invert_mask)
    scratched_photo = inputs.damage == "scratches" and is_photo(inputs.image)
    damaged = photo_damage(image) if scratched_photo else DAMAGE[str(inputs.damage)](image)
    if damaged.getbbox() is None:
        raise BadBrief(f"damage {inputs.damage!r}: none found; paint what to mend white in a mask")
    return checked_region(damaged, f"damage {inputs.damage!r}", invert=inputs.invert_mask)
