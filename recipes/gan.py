"""A DCGAN of stickers at 32 pixels: `python recipes/gan.py --data stickers-known --run runs/gan`.

Data: `danqing data stickers-known --known` in six styles, without the held-out pairs, reduced to 32 pixels.
For the perceptrons of 2014 set PRESET to "sticker-mlp".
"""

from __future__ import annotations

from common import arguments, read, say
from danqing.data.captions import STYLE_WORDS
from danqing.families.gan import GanPainter, fresh_networks, gan_card, save_latent
from danqing.training.adversarial import AdversarialOptions, AdversarialTrainer
from danqing.training.duel import Duel, DuelOptions, names_of

PRESET = "sticker"

if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, _ = read(asked.data)
    names = names_of(seen)
    duel = Duel(*fresh_networks(PRESET, names), seen, names, DuelOptions(r1=1.0, span=200_000))
    options = AdversarialOptions(
        steps=asked.steps or 12000, batch=32, lr=2e-4, lr_discriminator=2e-4, betas=(0.5, 0.999)
    )
    generator = AdversarialTrainer(duel, options, asked.run).train(watch=say).cpu()
    styles = {style: "/".join(STYLE_WORDS[style]) for style in sorted(set(seen.column("style")))}
    card = gan_card("gan", generator).model_copy(update={"styles": styles})
    save_latent(GanPainter(card, generator, names), asked.run / "gan")
