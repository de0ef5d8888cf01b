"""The ViT and `classify`: against torch's own encoder and transformers' files, and how files end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from torch.nn import TransformerEncoder
from transformers import CLIPConfig, CLIPModel, ViTForImageClassification, ViTImageProcessorPil

import danqing
from danqing.apps._classify import ByLabels, Classification, classify_pictures, open_namer
from danqing.apps._image_files import UnreadableFile
from danqing.apps._session import Session
from danqing.core.errors import BadBrief, BadData, BadWeights
from danqing.core.image_ref import ImageRef
from danqing.core.images import from_pil
from danqing.data.dataset import CaptionedImages
from danqing.families.clip import ClipScorer, ImageProcessor
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.families.vit import Classifier, build_vit, read_classifier, save_classifier, start_from_clip
from danqing.interfaces.cli import main as cli
from danqing.training.trainer import step_generator
from danqing.training.vit import VitObjective, _cut_mix, _mixup
from tests.tiny import CONCEPTS, stickers

NAMES = tuple(sorted(name for name, _ in CONCEPTS))
SIGHT = ImageProcessor(32)


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 3, side: Any = 32) -> Tensor:
    return torch.rand(n, 3, side, side, generator=rng()) * 2 - 1


@pytest.fixture(scope="module")
def model() -> ViTForImageClassification:
    torch.manual_seed(0)
    vit = build_vit("tiny", NAMES)
    for weight in vit.parameters():
        nn.init.normal_(weight, std=0.2)  # as it starts, all names would be about as likely
    return vit.eval()


@pytest.fixture
def folder(model: ViTForImageClassification, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def torch_encoder(vit: ViTForImageClassification) -> TransformerEncoder:
    """torch's own pre-norm encoder with a ViT's weights."""
    config, state = vit.config, vit.state_dict()
    layer = nn.TransformerEncoderLayer(
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=config.layer_norm_eps,
        batch_first=True,
        norm_first=True,
    )
    encoder = nn.TransformerEncoder(layer, config.num_hidden_layers, enable_nested_tensor=False).eval()
    theirs = {}
    for k in range(config.num_hidden_layers):
        pairs = {"attention.o_proj": "self_attn.out_proj", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
        pairs |= {"layernorm_before": "norm1", "layernorm_after": "norm2"}
        for kind in ("weight", "bias"):
            here, there = f"vit.layers.{k}.", f"layers.{k}."
            fused = torch.cat([state[f"{here}attention.{part}_proj.{kind}"] for part in "qkv"])
            theirs[f"{there}self_attn.in_proj_{kind}"] = fused
            theirs |= {f"{there}{b}.{kind}": state[f"{here}{a}.{kind}"] for a, b in pairs.items()}
    encoder.load_state_dict(theirs)
    return encoder


@torch.no_grad()
def test_its_answers_are_those_of_torchs_own_encoder(model: ViTForImageClassification) -> None:
    """Patches, cls token and positions put together by hand. Measured: 3e-8 on probabilities."""
    pixels, state = pictures(), model.state_dict()
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    embed = "vit.embeddings.patch_embeddings.projection."
    tokens = patches @ state[embed + "weight"].flatten(1).T + state[embed + "bias"]
    tokens = torch.cat([state["vit.embeddings.cls_token"].expand(3, -1, -1), tokens], dim=1)
    states = torch_encoder(model)(tokens + state["vit.embeddings.position_embeddings"])
    logits = model.classifier(model.vit.layernorm(states)[:, 0])
    ours = Classifier(model, SIGHT, batch=2).likely(pixels)
    torch.testing.assert_close(ours, logits.softmax(dim=-1), rtol=0, atol=1e-5)


def test_a_published_folder_sees_what_its_processor_shows(
    model: ViTForImageClassification, folder: Path
) -> None:
    """A square picture through transformers' resizing. Measured: 4e-5 on probabilities."""
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    noise = torch.rand(8, 8, 3, generator=rng(1)).mul(255).byte().numpy()
    image = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
    inputs = processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = model(inputs).logits.softmax(dim=-1)
    classifier = read_classifier(folder)
    assert classifier.processor.resize == "bilinear"
    torch.testing.assert_close(classifier.likely(from_pil(image)[None]), theirs, rtol=0, atol=5e-4)


@torch.no_grad()
def test_positions_stay_at_the_same_grid_and_stretch_to_others(model: ViTForImageClassification) -> None:
    pixels = pictures()
    whole = model(pixels).logits.softmax(dim=-1)
    assert torch.equal(Classifier(model, SIGHT).likely(pixels), whole)
    wider = Classifier(model, ImageProcessor(64)).likely(pixels)
    assert wider.shape == whole.shape
    assert not torch.equal(wider, whole)


@pytest.mark.parametrize(("side", "near"), [(33, 32), (4, 8), (45, 48)])
def test_a_side_that_patches_do_not_fill_is_told(
    model: ViTForImageClassification, side: int, near: int
) -> None:
    with pytest.raises(BadBrief, match=f"{side} pixels is no multiple of the patches of 8: use {near}"):
        Classifier(model, ImageProcessor(side))


def test_what_is_saved_is_read_here_and_by_transformers(
    model: ViTForImageClassification, tmp_path: Path
) -> None:
    """Half precision. Measured: 3e-5 on probabilities."""
    save_classifier(model, tmp_path / "vit")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in load_file(
        tmp_path / "vit" / "model.safetensors"
    )
    ours = read_classifier(tmp_path / "vit")
    assert ours.names == NAMES
    before = Classifier(model, SIGHT).likely(pictures())
    torch.testing.assert_close(ours.likely(pictures()), before, rtol=0, atol=3e-4)
    theirs = ViTForImageClassification.from_pretrained(tmp_path / "vit")
    assert all(torch.equal(theirs.state_dict()[k], v) for k, v in ours.model.state_dict().items())


def test_nothing_is_written_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    broken = build_vit("tiny", NAMES)
    broken.classifier.weight.data[0, 0] = 1e6
    with pytest.raises(BadWeights, match=r"classifier\.weight is not finite"):
        save_classifier(broken, tmp_path / "vit")
    assert not list(tmp_path.iterdir())


def another_kind(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))


def another_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 16}))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("fault", "says"), [(another_kind, "'clip'"), (another_size, "mis-shaped"), (no_weights, "safetensors")]
)
def test_a_damaged_folder_is_told_in_one_line(folder: Path, fault: Callable[..., Any], says: str) -> None:
    fault(folder)
    with pytest.raises(BadWeights) as raised:
        read_classifier(folder)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


# ---- learning


def text_encoder(patch: int) -> ClipScorer:
    """A small CLIP of the ViT's shape, with patches of its own."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 4 * patch, "patch_size": patch, "hidden_act": "gelu"}
    text = {
        **small,
        "vocab_size": 514,
        "max_position_embeddings": 16,
        "bos_token_id": 512,
        "eos_token_id": 513,
    }
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    return ClipScorer.of(clip, byte_tokenizer(16))


@torch.no_grad()
def test_a_start_from_clip_sees_what_clip_sees() -> None:
    """Angle between embeddings, where tokens are about equally long. Measured: cosine 1.0000."""
    scorer, vit = text_encoder(16), build_vit("tiny", NAMES)
    scorer.model.vision_model.embeddings.position_embedding.weight.normal_()
    pixels = pictures(8)
    start_from_clip(vit, scorer, pixels)
    large = torch.nn.functional.interpolate(pixels, scale_factor=2.0)
    theirs = scorer.model.vision_model(pixel_values=large).pooler_output
    ours = vit.eval().vit(pixels).last_hidden_state[:, 0]
    assert torch.cosine_similarity(ours, theirs).min() > 0.99
    expected_names = scorer.score(large, NAMES).argmax(dim=1)
    assert torch.equal(vit(pixels).logits.argmax(dim=1), expected_names)
    with pytest.raises(ValueError, match="another width or grid"):
        start_from_clip(vit, text_encoder(12), pixels)


def test_a_shallow_vit_begins_with_the_first_layers_of_clip() -> None:
    scorer, whole, half = text_encoder(16), build_vit("tiny", NAMES), build_vit("tiny", NAMES)
    del half.vit.layers[1:]
    for vit in (whole, half):
        start_from_clip(vit, scorer, pictures(8))
    states = whole.eval().vit(pictures(), output_hidden_states=True).hidden_states
    ours = half.eval().vit(pictures(), output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours[1], states[1])
    del scorer.model.vision_model.encoder.layers[1:]
    with pytest.raises(ValueError, match="fewer layers"):
        start_from_clip(whole, scorer, pictures(8))


@pytest.mark.parametrize("mix", [_mixup, _cut_mix])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_mixed_pictures_hold_as_much_of_both_as_is_said(mix: Callable[..., Any], share: float) -> None:
    """Pictures of ones and of zeros: the mean is the share that is kept."""
    pixels = torch.cat([torch.ones(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)])
    mixed, kept = mix(pixels, share, rng())
    assert 0.5 <= kept <= 1
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), torch.tensor([kept, 1 - kept]))


def test_data_that_cannot_be_learned_are_told() -> None:
    data = stickers()
    with pytest.raises(BadData, match="48 pixels are no multiple of the network's 32"):
        VitObjective(build_vit("tiny", NAMES), stickers(48), data)
    with pytest.raises(BadData, match="'owl' is no name that the network knows"):
        VitObjective(build_vit("tiny", ("cat", "red apple", "rocket")), data, data)
    cats = data.where(lambda row: row["concept"] == "cat")
    with pytest.raises(BadData, match="nothing to tell apart"):
        VitObjective(build_vit("tiny", ("cat",)), cats, cats)


def test_it_learns_what_colours_are() -> None:
    """Sixteen pictures of four colours, forty steps. Measured: all of them right, from a quarter."""
    torch.manual_seed(0)
    data: CaptionedImages = stickers()
    objective = VitObjective(build_vit("tiny", NAMES), data, data)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for step in range(40):
        loss = objective.train()(objective.batch(16, step_generator(0, step)))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert objective.accuracy() >= 0.75


# ---- the app and the command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (40, 20), colour).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("not asked for")
    return tmp_path


class Fixed:
    names = ("cat", "dog", "owl")

    def likely(self, _pixels: Tensor) -> Tensor:
        return torch.tensor([[0.2, 0.5, 0.3]])


@pytest.mark.usefixtures("place")
def test_folders_and_files_are_named_and_a_bad_one_stops_nothing() -> None:
    results = list(classify_pictures([ImageRef("in/b.png"), ImageRef("in")], Fixed(), top=2))
    assert [each.file.name for each in results] == ["b.png", "a.png", "b.png", "broken.png"]
    assert results[0] == Classification(results[0].file, (("dog", 0.5), ("owl", pytest.approx(0.3))))
    assert isinstance(results[3], UnreadableFile)
    assert "broken.png" in results[3].why


def test_what_cannot_be_asked_is_told(place: Path) -> None:
    (place / "empty").mkdir()
    with pytest.raises(BadBrief, match="no pictures in 'empty'"):
        list(classify_pictures([ImageRef("empty")], Fixed()))
    with pytest.raises(BadBrief, match="top 0"):
        danqing.classify(["in"], top=0)
    with pytest.raises(BadBrief, match="two or more different"):
        open_namer(Session(), labels=["cat", "cat"])
    with pytest.raises(BadBrief, match="side is for a ViT"):
        open_namer(Session(), side=64)


def test_labels_of_ones_own_are_chosen_among() -> None:
    namer = open_namer(Session(), labels=("cat", "狐狸", "cat"))
    assert isinstance(namer, ByLabels)
    assert namer.names == ("cat", "狐狸")
    likely = namer.likely(pictures(1))
    assert likely.shape == (1, 2)
    torch.testing.assert_close(likely.sum(), torch.tensor(1.0))


@pytest.mark.usefixtures("place")
def test_the_command_answers_in_json_and_as_a_table(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["classify", "in", "--model", str(folder), "--json", "--top", "2"]) == 0
    out, err = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [set(row) for row in rows] == [{"file", "names"}, {"file", "names"}, {"file", "error"}]
    likely = [name["likely"] for name in rows[0]["names"]]
    assert len(likely) == 2
    assert likely == sorted(likely, reverse=True)
    assert err.splitlines()[-1] == "danqing: 1 of 3 files could not be read"
    assert cli.run(["classify", "in/a.png"]) == 0
    assert "%" in capfd.readouterr().out


@pytest.mark.usefixtures("place")
def test_the_command_fails_when_nothing_can_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["classify", "in/broken.png", "nowhere.png"]) == 1
    assert "none of 2 files" in capfd.readouterr().err
    assert cli.run(["classify", "in/a.png", "--model", "nowhere"]) == 1
    assert "config.json" in capfd.readouterr().err
