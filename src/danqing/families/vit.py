"""ViT: a Transformer encoder that classifies a picture from a sequence of its patches.

Papers: Dosovitskiy et al., An Image is Worth 16x16 Words, arXiv 2010.11929; Vaswani et al., Attention Is All
You Need, arXiv 1706.03762.
Differs: small patches of small pictures, strong augmentation and initial weights from CLIP's image encoder,
because a ViT has no built-in notion of neighbouring patches and learns little from few pictures.
Licences: code Apache-2.0; other weights have the licence of their makers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import CLIPVisionModel, ViTConfig, ViTForImageClassification, ViTModel

from danqing.core.errors import BadBrief, BadWeights, shorten
from danqing.families.clip import ClipScorer, ImageProcessor, read_processor
from danqing.nets.placement import as_input, to_float32
from danqing.weights.pretrained import Config, read_json, read_module, replacing_folder, write_json

VITS: dict[str, Config] = {
    "tiny": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    # the first half of the shipped CLIP's image encoder at half its resolution, so that it can start from it
    "sticker": {
        "image_size": 64,
        "patch_size": 8,
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "layer_norm_eps": 1e-5,
    },
}

_NAMES_ON_DISK = (  # keys in old versions of transformers and in all published files -> current keys
    (r"\.encoder\.layer\.", ".layers."),
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.layers\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)


def build_vit(preset: str, names: Sequence[str]) -> ViTForImageClassification:
    """A ViT with random weights and the classes `names`."""
    labels = dict(enumerate(names))
    return ViTForImageClassification(
        ViTConfig(**VITS[preset], id2label=labels, label2id={name: k for k, name in labels.items()})
    )


@dataclass(frozen=True)
class Classifier:
    """A ViT classifier. Pictures are [n c h w] in [-1, 1], on white, of any size.

    model: the network.
    processor: the preprocessing. If its side is not that of training, position embeddings are interpolated
        (arXiv 2010.11929 section 3.2).
    batch: batch size of the network.

    Raises:
        BadBrief: the processor's side is not a multiple of the patch size.
    """

    model: ViTForImageClassification
    processor: ImageProcessor
    batch: int = 64

    def __post_init__(self) -> None:
        patch = self.model.config.patch_size
        if self.processor.side < patch or self.processor.side % patch:
            near = max(1, round(self.processor.side / patch)) * patch
            raise BadBrief(
                f"a side of {self.processor.side} pixels is no multiple of the patches of {patch}: use {near}"
            )
        self.model.eval().requires_grad_(False)

    @property
    def names(self) -> tuple[str, ...]:
        """The class names, in the order of the outputs."""
        return tuple(name for _, name in sorted(self.model.config.id2label.items()))

    def likely(self, pixels: Tensor) -> Tensor:
        """The probability of each class for each picture, [n names]; rows sum to 1."""
        parts = torch.split(pixels[:, :3], self.batch)
        return torch.cat([self._logits(part) for part in parts]).softmax(dim=-1)

    def _logits(self, pixels: Tensor) -> Tensor:
        inputs = as_input(self.model, self.processor(pixels))
        logits: Tensor = self.model(inputs, interpolate_pos_encoding=True).logits
        return to_float32(logits)


def read_classifier(folder: Path, side: int | None = None) -> Classifier:
    """Read a classifier from a folder of a ViT in the format of transformers, ours or a published one.

    The preprocessing is read from preprocessor_config.json; without that file, it is that of our models.
    Pictures that are not square get white margins, where transformers would stretch them.

    side: side of the input in pixels; None is that of the folder.

    Raises:
        BadWeights: the files cannot be used; the message names the file and the problem.
        BadBrief: the side is not a multiple of the patch size.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "vit":
        raise BadWeights(f"{str(folder)!r} holds a {shorten(str(kind))!r}: a classifier needs a 'vit'")
    model = read_module(folder, lambda config: ViTForImageClassification(ViTConfig.from_dict(config)), _key)
    usual, path = model.config.image_size, folder / "preprocessor_config.json"
    processor = read_processor(path, side or usual) if path.is_file() else ImageProcessor(side or usual)
    return Classifier(model, processor)


def save_classifier(model: ViTForImageClassification, folder: Path) -> None:
    """Write a folder in the format of transformers, completely or not at all, in half precision.

    Raises:
        BadWeights: a weight is NaN, infinite or beyond half precision.
    """
    half = deepcopy(model).half()
    for name, weight in half.state_dict().items():
        if not weight.isfinite().all():
            raise BadWeights(f"{name} is not finite in half precision: nothing is written")
    with replacing_folder(folder) as draft:
        half.save_pretrained(draft)
        config = read_json(draft / "config.json")
        write_json({**config, "dtype": "float32"}, draft / "config.json")  # the dtype to load it in


@torch.no_grad()
def start_from_clip(model: ViTForImageClassification, scorer: ClipScorer, pixels: Tensor) -> None:
    """Initialise a ViT as CLIP's zero-shot classifier (arXiv 2103.00020 section 3.1), before training.

    CLIP's image encoder must have the same width and the same grid of patches; its patches may be larger by a
    whole factor. CLIP normalises tokens before the first block, and embeddings before the comparison with
    names, by a norm that differs between pictures. Here both are divided by the mean norm over `pixels`
    instead. A ViT with fewer layers gets CLIP's first ones; it is a start for training, but not a classifier.

    pixels: sample pictures [n 3 s s] for the mean norms.

    Raises:
        ValueError: the encoder has another width, another grid or fewer layers.
    """
    encoder, vit = scorer.model.vision_model, model.vit
    ours, theirs = vit.embeddings.patch_embeddings.projection, encoder.embeddings.patch_embedding
    factor, rest = divmod(theirs.kernel_size[0], ours.kernel_size[0])
    grids = (vit.embeddings.position_embeddings[0], encoder.embeddings.position_embedding.weight)
    if rest or grids[0].shape != grids[1].shape or len(encoder.encoder.layers) < len(vit.layers):
        raise ValueError("the encoder has another width or grid, or fewer layers")
    # one of our pixels corresponds to factor^2 equal pixels of the encoder
    _start_tokens(vit, encoder, F.avg_pool2d(theirs.weight, factor) * factor**2, pixels)
    for mine, block in zip(vit.layers, encoder.encoder.layers, strict=False):
        for one, other in _same_layers(mine, block):
            one.load_state_dict(other.state_dict())
    vit.layernorm.load_state_dict(encoder.post_layernorm.state_dict())
    projection = scorer.model.visual_projection.weight
    length = (vit(pixels).last_hidden_state[:, 0] @ projection.T).norm(dim=-1).mean()
    names = scorer.text_embeddings([model.config.id2label[k] for k in range(model.config.num_labels)])
    model.classifier.weight.copy_(scorer.scale / length * names @ projection)
    model.classifier.bias.zero_()


def _start_tokens(vit: ViTModel, encoder: CLIPVisionModel, patches: Tensor, pixels: Tensor) -> None:
    """Set patch and position embeddings to approximate those of the encoder followed by its norm."""
    ours, norm = vit.embeddings.patch_embeddings.projection, encoder.pre_layrnorm
    places, mark = encoder.embeddings.position_embedding.weight, encoder.embeddings.class_embedding
    tokens = F.conv2d(pixels, patches, stride=ours.stride).flatten(2).transpose(1, 2) + places[1:]
    scale = norm.weight / tokens.std(dim=-1).mean()

    def normalise(vectors: Tensor) -> Tensor:
        centred: Tensor = (vectors - vectors.mean(dim=-1, keepdim=True)) * scale
        return centred

    ours.weight.copy_(normalise(patches.flatten(1).T).T.view_as(patches))
    ours.bias.zero_()
    vit.embeddings.position_embeddings.copy_(normalise(places)[None] + norm.bias)
    vit.embeddings.position_embeddings[0, 0] = norm(mark + places[0])  # the same for every picture
    vit.embeddings.cls_token.zero_()


def _same_layers(mine: nn.Module, theirs: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    pairs = {
        "attention.q_proj": "self_attn.q_proj",
        "attention.k_proj": "self_attn.k_proj",
        "attention.v_proj": "self_attn.v_proj",
        "attention.o_proj": "self_attn.out_proj",
        "layernorm_before": "layer_norm1",
        "layernorm_after": "layer_norm2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    return [(mine.get_submodule(one), theirs.get_submodule(other)) for one, other in pairs.items()]


def _key(name: str) -> str | None:
    """The network's key of a tensor in a file; None for the pooler, which a classifier does not use."""
    if name.startswith("vit.pooler."):
        return None
    for pattern, replacement in _NAMES_ON_DISK:
        name = re.sub(pattern, replacement, name)
    return name
