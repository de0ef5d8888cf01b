"""Translates options and commands of other programs, which people type out of habit, to those of danqing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import isfile
from pathlib import PurePath
from typing import NamedTuple

from danqing.diffusion.sampler_names import sampler_name
from danqing.interfaces.cli.config import SETTINGS

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
    "list": "models",
    "/imagine": "imagine",
    "/blend": "blend",
    "/describe": "describe",
    "画": "paint",
    "重画": "redraw",
    "放大": "upscale",
    "描述": "describe",
    "模型": "models",
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
    "--num-outputs": "--count",
    "--num": "--count",
    "--n": "--count",
    "--batch-count": "--count",
    "--batch-size": "--count",
    "--number": "--count",
    "--output": "--out",
    "--outdir": "--out",
    "--output-dir": "--out",
    "--output-file": "--out",
    "--output-path": "--out",
    "--filename": "--out",
    "--save": "--out",
    "--checkpoint": "--model",
    "--ckpt": "--model",
    "--lora": "--adapter",
    "--controlnet": "--control",
    "--controlnet-model": "--control-model",
    "--t2i-adapter": "--control-model",
    "--ip-adapter-image": "--ip-image",
    "--ip-adapter-model": "--ip-adapter",
    "--aspect-ratio": "--ar",
    "--aspect": "--ar",
    "--tiling": "--tile",
    "--prompts-from-file": "--from-file",
    "--s": "--stylize",
    "--c": "--chaos",
    "--w": "--weird",
    "-s": "--steps",
    "-S": "--seed",
    "-C": "--guidance",
    "-A": "--sampler",
    "-W": "--width",
    "-H": "--height",
    "-m": "--model",
    "--factor": "--scale",
    "--upscale-factor": "--scale",
    "--upscale-by": "--scale",
    "--风格": "--style",
    "--数量": "--count",
    "--种子": "--seed",
    "--步数": "--steps",
    "--模型": "--model",
    "--输出": "--out",
    "--宽": "--width",
    "--高": "--height",
}
"""Options of A1111, diffusers, InvokeAI, the CompVis scripts and Midjourney -> ours.

None is the name of ours.
"""

PARTS = {"rm": "remove", "delete": "remove", "ls": "list"}
"""Names in other programs for the sub-commands of `danqing models` and `danqing config` -> ours."""

TIMES = {"upscale": "--scale", "zoom": "--by"}
"""Commands -> the option that a factor such as "2x" stands for."""

WORDS = ("--prompt", "--text", "-p")
PICTURES = ("--image", "--init-image", "--init-img", "--input", "--input-image", "-i", "-I")
"""Options of other programs -> the positional field that they fill here: words or a picture."""

IGNORED = {
    **dict.fromkeys(("--v", "--niji", "--q", "--quality"), ("Midjourney", 1)),
    **dict.fromkeys(("--hd", "--relax", "--turbo"), ("Midjourney", 0)),
    **dict.fromkeys(("--xformers", "--medvram", "--lowvram", "--no-half"), ("A1111", 0)),
}
"""Options without a meaning here -> (their program, largest number of values)."""

IP_SCALES = ("--ip-scale", "--ip-adapter-scale")
"""Names in other programs for the number after a picture of --ip-image."""

SIZES = ("--size", "--resolution", "--dimensions")
"""Names in other programs for one size of both width and height; only for commands that paint."""

GLOBAL = ("--device", "--dtype", "--backend", "--lang")
"""Our options that belong before the command, and are also accepted after it."""


class Rewritten(NamedTuple):
    """A command line in danqing's own names.

    argv: its words.
    notes: what was replaced, for the user.
    """

    argv: list[str]
    notes: list[str]


def rewrite(argv: Sequence[str]) -> Rewritten:
    """Replace other programs' names in a command line by ours; words after -- stay as they are."""
    end = argv.index("--") if "--" in argv else len(argv)
    words, tail = list(argv[:end]), list(argv[end:])
    notes: list[str] = []
    if words[:1] in (["help"], ["version"]):
        words = [*words[1:], f"--{words[0]}"]
    front, words = _global_options(words)
    if words and words[0] in COMMANDS:
        notes.append(f"{words[0]} is called {COMMANDS[words[0]]} here")
        words[0] = COMMANDS[words[0]]
    command, rest = words[:1], _parts(words[:1], words[1:], notes)
    if rest and rest[0] == "prompt:":  # as Midjourney's /imagine displays it
        rest = rest[1:]
    pictures, rest, prompts = _places(command, rest, notes)
    return Rewritten([*front, *command, *pictures, *_options(rest, notes), *prompts, *tail], notes)


def _global_options(words: list[str]) -> tuple[list[str], list[str]]:
    """Move the global options to the front. Returns them and the other words."""
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


def _parts(command: list[str], words: list[str], notes: list[str]) -> list[str]:
    """Translate sub-commands, factors and file names that begin with a dash."""
    if command in (["models"], ["config"]) and words:
        part = PARTS.get(words[0], words[0])
        if command == ["config"] and part in SETTINGS:  # `config model sdxl` means `config set model sdxl`
            part = f"{'get' if len(words) == 1 else 'set'} {part}"
        if part != words[0]:
            notes.append(f"{words[0]} is called {part} here")
        return [*part.split(), *words[1:]]
    kept: list[str] = []
    for word in words:
        times = re.fullmatch(r"x?(\d+(?:\.\d+)?)x|x(\d+(?:\.\d+)?)", word.lower())
        if times and command and command[0] in TIMES:
            kept += [TIMES[command[0]], times[1] or times[2]]
            notes.append(f"{word} is called {kept[-2]} {kept[-1]} here")
        elif word.startswith("-") and _is_picture(word):
            kept.append(f"./{word}")
        else:
            kept.append(word)
    return kept


def _is_picture(name: str) -> bool:
    """Whether there is a picture file of this name."""
    if not isfile(name):  # noqa: PTH113  not Path.is_file, which raises for a name that is too long
        return False
    from danqing.core.source_image import SUFFIXES

    return PurePath(name).suffix.lower() in SUFFIXES


def _places(command: list[str], words: list[str], notes: list[str]) -> tuple[list[str], ...]:
    """Move values of other programs' options to positional words: (pictures, other words, prompts)."""
    fields = _positional(command[0]) if command else set()
    starts_from_pictures = bool({"image", "images", "pictures"} & fields)
    pictures: list[str] = []
    rest: list[str] = []
    prompts: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        plain = name.replace("_", "-") if name.startswith("--") else name
        if plain in WORDS and {"prompt", "words"} & fields and (equals or queue):
            place, noun = prompts if starts_from_pictures else rest, "words"
        elif plain in PICTURES and starts_from_pictures and (equals or queue):
            place, noun = pictures, "picture"
        elif plain in SIZES and fields and (equals or queue):
            rest += _size(value if equals else queue.pop(0), name, notes)
            continue
        else:
            taken = command == ["paint"] and plain in PICTURES[1:]
            notes += [f"{name} is called --image here"] if taken else []
            rest.append(f"--image{equals}{value}" if taken else word)
            continue
        place.append(value if equals else queue.pop(0))
        notes.append(f"{name} is left out here: the {noun} alone")
    return pictures, rest, prompts


def _positional(command: str) -> set[str]:
    """The positional fields of an app; empty if the command is no app."""
    from danqing.apps import app_summaries

    if command not in app_summaries():
        return set()
    from danqing.apps import find_app
    from danqing.interfaces.cli.options import argument_names, words_behind_list

    inputs = find_app(command).inputs
    return {*argument_names(inputs), *words_behind_list(inputs)}


def _options(words: Sequence[str], notes: list[str]) -> list[str]:
    """Translate the options of a command to our names."""
    kept: list[str] = []
    scale = ""
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        plain = name.replace("_", "-") if name.startswith("--") else name
        if plain in IP_SCALES and (equals or queue):
            scale = value if equals else queue.pop(0)
            notes.append(f"{name} stands behind the picture here: --ip-image photo.jpg:{scale}")
        elif not plain.startswith("-") or plain == "-":
            kept.append(word)
        elif plain in IGNORED:
            program, values = IGNORED[plain]
            if values and not equals and queue and _is_number(queue[0]):
                value = queue.pop(0)
            text = " ".join(filter(None, (plain, value)))
            notes.append(f"{text} is {program}'s own: it does nothing here")
        else:
            ours = OPTIONS.get(plain, plain)
            if ours != plain:
                notes.append(f"{name} is called {ours} here")
            kept += _with_value(ours, equals, value, queue, notes)
    return _with_scale(kept, scale) if scale else kept


def _with_scale(words: Sequence[str], scale: str) -> list[str]:
    """Add `scale` to each picture of --ip-image that has no number."""

    def with_scale(word: str) -> str:
        return word if re.search(r":[\d.]+(:[\d.]+-[\d.]+)?$", word) else f"{word}:{scale}"

    before = ["", *words]
    return [
        with_scale(word) if word.startswith("--ip-image=") or former == "--ip-image" else word
        for former, word in zip(before, words, strict=False)
    ]


def _with_value(option: str, equals: str, value: str, queue: list[str], notes: list[str]) -> list[str]:
    """Translate an option with its value; some values have other names here too."""
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


def _size(value: str, name: str, notes: list[str]) -> list[str]:
    """Width and height from "512x768", the notation of OpenAI and others, or from one number for both."""
    width, _, height = value.lower().replace("×", "x").replace("*", "x").partition("x")
    notes.append(f"{name} is called --width and --height here")
    return ["--width", width.strip(), "--height", (height or width).strip()]


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()
