"""What people type out of habit from other programs, as what danqing calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from danqing.diffusion.sampler_names import sampler_name

COMMANDS = {
    "txt2img": "paint",
    "text2img": "paint",
    "text-to-image": "paint",
    "generate": "paint",
    "draw": "paint",
    "img2img": "redraw",
    "image-to-image": "redraw",
    "variations": "vary",
    "interrogate": "describe",
    "caption": "describe",
    "extend": "outpaint",
    "uncrop": "outpaint",
    "enlarge": "upscale",
    "info": "show",
    "list-models": "models",
}
OPTIONS = {
    "--negative-prompt": "--no",
    "--negative": "--no",
    "--neg": "--no",
    "--cfg": "--guidance",
    "--cfg-scale": "--guidance",
    "--guidance-scale": "--guidance",
    "--num-inference-steps": "--steps",
    "--num-steps": "--steps",
    "--sampling-steps": "--steps",
    "--denoising-strength": "--strength",
    "--denoise": "--strength",
    "--sampler-name": "--sampler",
    "--sampling-method": "--sampler",
    "--scheduler": "--sampler",
    "--n-iter": "--count",
    "--n-samples": "--count",
    "--num-images": "--count",
    "--num-images-per-prompt": "--count",
    "--batch-count": "--count",
    "--number": "--count",
    "--output": "--out",
    "--outdir": "--out",
    "--output-dir": "--out",
    "--checkpoint": "--model",
    "--ckpt": "--model",
    "--lora": "--adapter",
    "--controlnet": "--control",
    "--controlnet-model": "--control-model",
    "--aspect-ratio": "--ar",
    "--aspect": "--ar",
    "--tiling": "--tile",
    "--prompts-from-file": "--from-file",
    "--s": "--stylize",
    "--c": "--chaos",
    "--w": "--weird",
}
"""Options of A1111, diffusers, InvokeAI, the CompVis scripts and Midjourney; none of them is one of ours."""

IGNORED = {"--v": 1, "--niji": 1, "--hd": 0, "--relax": 0, "--turbo": 0}
"""Options of Midjourney that mean nothing here -> how many values they have at most."""

GLOBAL = ("--device", "--dtype", "--lang")
"""Our options that stand before the command, and may stand behind it."""


class Rewritten(NamedTuple):
    """A command line as danqing reads it. notes: what was taken for what."""

    argv: list[str]
    notes: list[str]


def rewrite(argv: Sequence[str]) -> Rewritten:
    """The command line with other programs' names replaced by ours; what stands behind -- is left alone."""
    end = argv.index("--") if "--" in argv else len(argv)
    words, tail = list(argv[:end]), list(argv[end:])
    notes: list[str] = []
    front, words = _global_options(words)
    if words and words[0] in COMMANDS:
        notes.append(f"{words[0]} is called {COMMANDS[words[0]]} here")
        words[0] = COMMANDS[words[0]]
    command, rest = words[:1], words[1:]
    return Rewritten([*front, *command, *_options(rest, notes), *tail], notes)


def _global_options(words: list[str]) -> tuple[list[str], list[str]]:
    """The options that stand before the command, wherever they were typed, and the other words."""
    front: list[str] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word in GLOBAL and queue:
            front += [word, queue.pop(0)]
        elif word.startswith(tuple(f"{option}=" for option in GLOBAL)):
            front.append(word)
        else:
            rest.append(word)
    return front, rest


def _options(words: Sequence[str], notes: list[str]) -> list[str]:
    """The options of a command, in our names."""
    kept: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        plain = name.replace("_", "-") if name.startswith("--") else name
        if not plain.startswith("-") or plain == "-":
            kept.append(word)
        elif plain in IGNORED:
            if IGNORED[plain] and not equals and queue and _is_number(queue[0]):
                value = queue.pop(0)
            notes.append(
                f"{' '.join(filter(None, (plain, value)))} is Midjourney's own: it does nothing here"
            )
        else:
            ours = OPTIONS.get(plain, plain)
            if ours != plain:
                notes.append(f"{name} is called {ours} here")
            kept += _with_value(ours, equals, value, queue, notes)
    return kept


def _with_value(option: str, equals: str, value: str, queue: list[str], notes: list[str]) -> list[str]:
    """An option with its value, where the value is a habit, too."""
    if option not in ("--seed", "--sampler"):
        return [f"{option}{equals}{value}"]
    if not equals:
        if not queue:
            return [option]
        value = queue.pop(0)
    if option == "--seed" and value == "-1":
        notes.append("seed -1 is a random one: leave it out")
        return []
    return [option, sampler_name(value) if option == "--sampler" else value]


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()
