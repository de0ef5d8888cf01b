"""Opening a Stable Diffusion 1.5 of random weights: seconds and peak memory, by danqing and by diffusers.

    python benchmarks/load.py /tmp/sd15

Makes the folder (4.3 GB in float32) where there is none. Each program runs in a process of its own; the
first reads what the file cache has. Peak memory counts pages of the file that were touched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

OURS = """
from danqing.families import open_painter
painter = open_painter(place, "cpu")
opened = time.perf_counter() - start
unet = painter.modules["unet"]
"""
THEIRS = """
from diffusers import StableDiffusionPipeline
unet = StableDiffusionPipeline.from_pretrained(place, local_files_only=True, safety_checker=None).unet
opened = time.perf_counter() - start
"""
PROGRAM = """
import json, resource, sys, time
import torch
from diffusers import UNet2DConditionModel, AutoencoderKL, StableDiffusionPipeline
import danqing.families.stable_diffusion.painter
place = sys.argv[1]
start = time.perf_counter()
{body}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.no_grad():
    for _ in range(2):
        begin = time.perf_counter()
        unet(torch.zeros(1, 4, 32, 32), 500, torch.zeros(1, 77, 768))
        step = time.perf_counter() - begin
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"opened s": round(opened, 2), "peak GiB": round(peak / 2**20, 2),
                   "a step of 256 px s": round(step, 2), "peak with steps GiB": round(after / 2**20, 2)}}))
"""


def make(folder: Path) -> None:
    """A folder of the published shapes with random weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from danqing.weights.clip_vocabulary import clip_tokenizer
    from danqing.weights.diffusers_folder import StableDiffusionComponents, derived_card, save_folder
    from danqing.weights.ldm_configs import SCHEDULER

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    sizes = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    }
    text_encoder = CLIPTextModel(
        CLIPTextConfig(**sizes, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407)
    )
    card = derived_card("sd15", unet, vae, None)
    scheduler = {**SCHEDULER, "prediction_type": "epsilon"}
    save_folder(
        StableDiffusionComponents(unet, vae, text_encoder, clip_tokenizer(), scheduler, card),
        folder,
        torch.float32,
    )


def main(place: str) -> None:
    """Make the folder if need be, and print a line for each program."""
    if not Path(place).exists():
        with ProcessPoolExecutor(1) as own:  # a child process begins with its parent's peak
            own.submit(make, Path(place)).result()
    for name, body in (("diffusers", THEIRS), ("danqing", OURS), ("diffusers", THEIRS), ("danqing", OURS)):
        program = PROGRAM.format(body=body)
        result = subprocess.run(
            [sys.executable, "-c", program, place], capture_output=True, text=True, check=True
        )
        print(f"{name:<10}", json.loads(result.stdout.splitlines()[-1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
