"""StyleGAN 2 with adaptive augmentation: stickers at 32 pixels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs, reduced to 32 pixels. R1's weight is a hundred times ADA's rule of thumb,
0.0002 * side^2 / batch, because so few pictures need more regularisation.
"""

from __future__ import annotations

from pathlib import Path

from danqing.families.stylegan.painter import StylePainter, fresh_networks, save_latent, style_card
from danqing.recipes._recipe import TrainRequest, read, recipe, styles_of
from danqing.training.adversarial import AdversarialOptions
from danqing.training.gan import GanOptions, GanTask, names_of

BATCH = 32


@recipe("stylegan")
def stylegan(request: TrainRequest) -> Path:
    """Train both networks; writes `stylegan`, the painter's folder."""
    train_set, _ = read(request)
    names = names_of(train_set)
    generator, discriminator = fresh_networks("sticker", names)
    r1 = 0.02 * generator.size**2 / BATCH
    task = GanTask(generator, discriminator, train_set, names, GanOptions(r1=r1, path=2.0))
    options = AdversarialOptions(steps=request.steps or 10000, batch=BATCH)
    average = request.train_adversarial(task, options)
    generator.load_state_dict(average.state_dict())
    card = style_card("stylegan", generator).model_copy(update={"styles": styles_of(train_set)})
    save_latent(StylePainter(card, generator.cpu(), names), request.run / "stylegan")
    return request.run / "stylegan"
