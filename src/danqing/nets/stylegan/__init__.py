"""StyleGAN 2: a mapping network, a generator led by styles, and a residual discriminator."""

from danqing.nets.stylegan.discriminator import StyleDiscriminator as StyleDiscriminator
from danqing.nets.stylegan.generator import StyleConfig as StyleConfig
from danqing.nets.stylegan.generator import StyleGenerator as StyleGenerator
