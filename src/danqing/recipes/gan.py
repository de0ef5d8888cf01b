"""GAN: a DCGAN of stickers at 32 pixels.

Data: `danqing data stickers --known --styles 3d,flat,cartoon,paper-cut,porcelain,ink-wash`, without the
held-out pairs, reduced to 32 pixels. For multilayer perceptrons, as in the paper of 2014, set PRESET to
"sticker-mlp".
"""

from __future__ import annotations

from pathlib import Path

from danqing.families.gan import GanPainter, fresh_networks, gan_card, save_latent
from danqing.recipes._recipe import TrainRequest, read, recipe, styles_of
from danqing.training.adversarial import AdversarialOptions
from danqing.training.gan import GanOptions, GanTask, names_of

PRESET = "sticker"


@recipe("gan")
def gan(request: TrainRequest) -> Path:
    """Train both networks; writes `gan`, the painter's folder."""
    train_set, _ = read(request)
    names = names_of(train_set)
    generator, discriminator = fresh_networks(PRESET, names)
    task = GanTask(generator, discriminator, train_set, names, GanOptions(r1=1.0, span=200_000))
    options = AdversarialOptions(
        steps=request.steps or 12000, batch=32, lr=2e-4, lr_discriminator=2e-4, betas=(0.5, 0.999)
    )
    average = request.train_adversarial(task, options)
    generator.load_state_dict(average.state_dict())
    card = gan_card("gan", generator).model_copy(update={"styles": styles_of(train_set)})
    save_latent(GanPainter(card, generator.cpu(), names), request.run / "gan")
    return request.run / "gan"
