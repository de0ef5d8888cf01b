"""A StyleGAN of stickers, 64 pixels: `python recipes/stylegan.py --data stickers-known --run runs/stylegan`.

Data: `danqing data stickers-known --known` in six styles, without the held-out pairs, reduced to 64 pixels.
R1's weight is ADA's rule of thumb, 0.0002 * side^2 / batch, times ten: so few pictures want a steadier hand.
"""

from __future__ import annotations

from common import arguments, read, say
from danqing.data.captions import STYLE_WORDS
from danqing.families.stylegan import StylePainter, fresh_networks, save_latent, style_card
from danqing.training.adversarial import AdversarialOptions, AdversarialTrainer
from danqing.training.duel import Duel, DuelOptions, names_of

BATCH = 16

if __name__ == "__main__":
    asked = arguments(__doc__)
    seen, _ = read(asked.data)
    names = names_of(seen)
    generator, discriminator = fresh_networks("sticker", names)
    r1 = 0.002 * generator.size**2 / BATCH
    duel = Duel(generator, discriminator, seen, names, DuelOptions(r1=r1, path=2.0))
    options = AdversarialOptions(steps=asked.steps or 15000, batch=BATCH)
    average = AdversarialTrainer(duel, options, asked.run).train(watch=say).cpu()
    styles = {style: "/".join(STYLE_WORDS[style]) for style in sorted(set(seen.column("style")))}
    card = style_card("stylegan", average).model_copy(update={"styles": styles})
    save_latent(StylePainter(card, average, names), asked.run / "stylegan")
