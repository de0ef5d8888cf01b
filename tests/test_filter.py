"""The data filter: what scores mean, that decisions follow from them alone, and that nothing is dropped."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from danqing.core.errors import BadData, BadWeights
from danqing.core.images import from_pil
from danqing.data.clip_scores import ClipScores, read_linear
from danqing.data.dataset import CaptionedImages, read_imagefolder
from danqing.data.filter import Limits, filter_folder, perceptual_hash, reason_against, sharpness
from danqing.families.clip import ClipScorer, build_clip
from danqing.families.stable_diffusion.painter import byte_tokenizer
from danqing.interfaces.cli import main as cli
from danqing.training.clip import ClipObjective
from danqing.training.trainer import Trainer, TrainOptions
from tests.progress import Lines
from tests.tiny import stickers


def noise(seed: int, side: int = 96) -> Image.Image:
    """Coarse noise, which looks like nothing else."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    noise(0).save(place / "a.png")
    noise(0).resize((80, 80)).save(place / "b.jpg", quality=70)  # the same once more
    noise(1).filter(ImageFilter.GaussianBlur(9)).save(place / "c.png")
    noise(2, 36).save(place / "d.png")
    noise(3).save(place / "e.png")
    (place / "f.png").write_bytes(b"no picture")
    (place / "g.png").mkdir()
    rows = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "e.png", "text": "a dog"}]
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return place


def test_every_picture_has_a_verdict_and_a_reason(folder: Path) -> None:
    verdicts = {verdict.file: verdict for verdict in filter_folder(folder, Limits())}
    assert list(verdicts) == ["a.png", "b.jpg", "c.png", "d.png", "e.png", "f.png"]
    assert [name for name, verdict in verdicts.items() if verdict.keep] == ["a.png", "e.png"]
    assert "looks like a.png" in verdicts["b.jpg"].reason
    assert verdicts["c.png"].reason.startswith("sharp ")
    assert verdicts["d.png"].reason == "side 36 is below 64"
    assert "is not a PNG" in verdicts["f.png"].reason
    assert list(filter_folder(folder, Limits())) == list(verdicts.values())


SCORES = st.fixed_dictionaries(
    {name: st.floats(-2, 300) for name in ("side", "sharp", "match", "aesthetic", "unsafe")}
)


@given(
    SCORES, st.floats(-2, 300), st.floats(0, 50), st.sampled_from(["sharp", "match", "aesthetic", "unsafe"])
)
def test_a_stricter_limit_never_keeps_more(scores: Any, limit: Any, more: Any, name: Any) -> None:
    loose = Limits(side=1, sharp=-9, **({} if name == "sharp" else {name: limit}))
    stricter = limit - more if name == "unsafe" else limit + more
    strict = Limits(**{**vars(loose), name: stricter})
    if not reason_against(scores, strict):
        assert not reason_against(scores, Limits(**{**vars(loose), name: limit}))


def test_a_score_that_is_asked_for_and_missing_or_nan_is_a_reason() -> None:
    fine = {"side": 100.0, "sharp": 100.0}
    assert reason_against(fine, Limits()) == ""
    assert reason_against(fine, Limits(match=0.1)) == "match is not known"
    assert "unsafe nan is above" in reason_against({**fine, "unsafe": float("nan")}, Limits(unsafe=0.1))


def test_hashes_and_sharpness() -> None:
    """Measured: 0 bits apart when resized and 0 when saved as JPEG, 24 to 36 for other pictures."""
    hashes = [perceptual_hash(noise(seed)) for seed in range(6)]
    for one, other in pairwise(hashes):
        assert (one ^ other).bit_count() > 16
    assert (hashes[0] ^ perceptual_hash(noise(0).resize((50, 50)))).bit_count() <= 4
    plain = Image.new("RGB", (32, 32), "red")
    assert sharpness(plain) == 0
    one = Image.new("L", (5, 5))  # type: ignore[assignment]
    one.putpixel((2, 2), 1)
    assert sharpness(one) == pytest.approx((16 + 4) / 25)  # the kernel's squares: its mean is 0


def test_clip_scores_are_cosines_and_linear(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scorer = ClipScorer.of(build_clip("tiny", byte_tokenizer(16)), byte_tokenizer(16))
    weight = torch.randn(1, 32)
    save_file({"weight": weight, "bias": torch.tensor([0.5])}, tmp_path / "linear.safetensors")
    linear = read_linear(tmp_path / "linear.safetensors", 32)
    scores = ClipScores(scorer, linear, linear)(noise(0), "a cat")
    embedding = scorer.image_embeddings(from_pil(noise(0))[None])[0].detach()
    logit = float(embedding @ weight[0] + 0.5)
    assert scores["match"] == pytest.approx(
        float(scorer.score(from_pil(noise(0))[None], ["a cat"])), abs=1e-6
    )
    assert scores["aesthetic"] == pytest.approx(logit, abs=1e-5)
    assert scores["unsafe"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert "match" not in ClipScores(scorer)(noise(0), "")
    with pytest.raises(BadWeights, match="a weight of 16 numbers"):
        read_linear(tmp_path / "linear.safetensors", 16)


def test_the_command_writes_a_manifest(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "filter", str(folder), "--match", "-1"]) == 0
    out, err = capfd.readouterr()
    manifest = folder / "manifest.jsonl"
    assert (out, err) == (f"{manifest}\n", "2 of 6 pictures stay\n")
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    assert [row["keep"] for row in rows] == [True, False, False, False, True, False]
    assert -1 <= rows[0]["scores"]["match"] <= 1
    before = manifest.read_bytes()
    assert cli.run(["data", "filter", str(folder), "--match", "-1"]) == 0
    assert manifest.read_bytes() == before
    assert cli.run(["data", "filter", str(folder / "nothing")]) == 1


# ---- what training refuses


def rows_like(data: CaptionedImages, **changed: Any) -> CaptionedImages:
    return CaptionedImages(data.pictures, tuple({**row, **changed} for row in data.rows))


def test_bad_files_are_listed_skipped_and_counted(tmp_path: Path) -> None:
    for name, side in (("a", 16), ("b", 16), ("tiny", 4)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = ("a", "b", "tiny", "broken", "missing")
    lines = [json.dumps({"file_name": f"{name}.png", "text": name}) for name in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    told = Lines()
    assert len(read_imagefolder(tmp_path, progress=told)) == 2
    assert [line.split("'")[1] for line in told[:3]] == ["tiny.png", "broken.png", "missing.png"]
    assert told[3] == "3 of 5 pictures are skipped"
    with pytest.raises(BadData, match="2 readable pictures of 5: at least 3"):
        read_imagefolder(tmp_path, least=3)


def test_words_that_teach_nothing_are_told() -> None:
    data = stickers()
    data.check_captions()
    with pytest.raises(BadData, match="all 16 captions are 'a thing'"):
        rows_like(data, text="a thing").check_captions()
    for missing in ("", None):
        with pytest.raises(BadData, match=r"'3d/cat.png' has no text"):
            rows_like(data, text=missing).check_captions()


def test_what_clip_cannot_learn_from_is_told_before_it_starts(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(16)
    clip = build_clip("tiny", tokenizer)
    data = stickers()
    with pytest.raises(BadData, match="48 pixels do not fit a CLIP that takes 32"):
        ClipObjective(clip, tokenizer, stickers(48), data)
    with pytest.raises(BadData, match="has no text"):
        ClipObjective(clip, tokenizer, rows_like(data, text=None), data)
    objective = ClipObjective(clip, tokenizer, data, data)
    with pytest.raises(BadData, match="batches of 2 are too small"):
        Trainer(objective, TrainOptions(steps=1, batch=2), tmp_path)
