"""`danqing models`: those that are shipped, the user's own list, the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from danqing.core.card import Card, read_card
from danqing.core.errors import BadBrief, DanqingError
from danqing.data.vocabulary import vocabulary
from danqing.weights.model_list import (
    HUB_ID,
    cached_models,
    find_place,
    known_models,
    list_model,
    listed_models,
    not_there,
    unlist_model,
)
from danqing.weights.shipped import shipped_models, unknown_model

if TYPE_CHECKING:
    from rich.console import Console

    from danqing.weights.hub import HubModel

app = typer.Typer(
    help="List models, use those that you have where they are, fetch others from the hub.",
    add_completion=False,
    invoke_without_command=True,
)
Name = Annotated[str, typer.Argument(help="A name from the list, a path, or an id of the hub.")]


@app.callback()
def models(
    context: typer.Context,
    words: Annotated[
        str, typer.Option(help="List the things that this model has learned, in English and Chinese.")
    ] = "",
) -> None:
    """List the models that came with danqing, your own, and what each can paint.

    A folder of weights, or one file, can be used too: danqing paint "a cat" --model PLACE
    """
    if context.invoked_subcommand is None:
        _list_things(words, _console()) if words else _list_models(_console())


@app.command("list")
def list_all() -> None:
    """List the models that came with danqing, your own, and those in the cache of the hub.

    danqing models list
    """
    _list_models(_console())


@app.command()
def add(
    what: Annotated[str, typer.Argument(help="A folder, a file, an id of the hub, or a short name as sd15.")],
    name: Annotated[str, typer.Option(help="What to call it; else as its folder or file.")] = "",
    variant: Annotated[str, typer.Option(help="fp16 fetches weights in half precision.")] = "",
    revision: Annotated[str, typer.Option(help="A commit or branch at the hub.")] = "",
    file: Annotated[str, typer.Option(help="Which single file, where a repository has several.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before fetching.")] = False,
) -> None:
    """Put a model on your list: one that you have, where it is, or one from the hub.

    danqing models add ~/models/dream.safetensors --name dream

    danqing models add sdxl
    """
    entry = known_models().get(what)
    place = None if entry and not Path(what).exists() else find_place(what)
    if place is None:
        if not entry and not HUB_ID.fullmatch(what):
            raise BadBrief(unknown_model(what))
        selection = Selection(variant or (entry.variant if entry else ""), revision, file)
        place = _fetch(entry.repo if entry else what, selection, yes)
    if not Path(place).exists():
        raise BadBrief(f"{what!r} is on your list at {str(place)!r} and no longer there: add its new place")
    called = name or (what if entry else Path(what).stem if place.is_file() else Path(what).name)
    if called in shipped_models():
        raise BadBrief(f"{called!r} is the name of a shipped model: choose another with --name")
    from danqing.interfaces.cli.model_files import use_of

    list_model(called, place)
    print(f"{called} is {place}: {use_of(place, called)}")


class Selection(NamedTuple):
    """Which files of a repository to download."""

    variant: str
    revision: str
    file: str


def _fetch(repo: str, selection: Selection, yes: bool) -> Path:
    from danqing.weights.hub import fetch, find_on_hub

    model = find_on_hub(repo, selection.revision or None, selection.variant, selection.file)
    print(_offer(model), file=sys.stderr)
    if not yes and not (sys.stdin.isatty() and typer.confirm("Fetch it?", err=True)):
        raise BadBrief(f"{model.repo} was not fetched: answer y, or give --yes")
    return fetch(model)


def _offer(model: HubModel) -> str:
    left = sum(file.size for file in model.files if not model.cached_path(file).exists())
    rest = f", {left / 1e9:.2f} GB of it not here yet" if left != model.size else ""
    return (
        f"{model.repo}: {len(model.files)} files, {model.size / 1e9:.2f} GB{rest}; licence: {model.licence}"
    )


@app.command()
def info(name: Name) -> None:
    """Tell what a model or any file of weights is: LoRA, VAE, ControlNet and so on.

    danqing models info dream.safetensors
    """
    from danqing.interfaces.cli.model_files import facts_of_file, facts_of_folder

    place = shipped_models().get(name) or find_place(name)
    if place is None:
        raise BadBrief(not_there(name) or unknown_model(name))
    if (place / "card.json").is_file():
        facts = _facts(read_card(place))
    else:
        facts = facts_of_folder(place) if place.is_dir() else facts_of_file(place)
    for label, value in facts.items():
        _console().print(f"{label:<9} {value}")


@app.command()
def remove(name: Annotated[str, typer.Argument(help="A name from your list.")]) -> None:
    """Take a model off your list. Its files stay where they are.

    danqing models remove dream
    """
    place = unlist_model(name)
    print(f"{name} is off the list; its files are still at {place}")


@app.command()
def scan(
    folder: Annotated[Path, typer.Argument(help="A folder of models, also of another program.")],
    add_all: Annotated[bool, typer.Option("--add", help="Put all whole models on your list.")] = False,
) -> None:
    """Tell what every file of weights below a folder is.

    danqing models scan ~/stable-diffusion-webui/models
    """
    from danqing.interfaces.cli.model_files import found_in

    if not folder.is_dir():
        raise BadBrief(f"{str(folder)!r} is no folder: give the folder that holds your models")
    found_any = False
    for place, what in found_in(folder):
        found_any = True
        _console().print(f"{place.relative_to(folder)}  {what}")
        if add_all and what.startswith(("a whole model", "a folder of diffusers")):
            list_model(place.stem if place.is_file() else place.name, place)
    if not found_any:
        raise DanqingError(f"{str(folder)!r} holds no weights: give the folder that holds your models")


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A pickle of weights: .ckpt, .pt, .pth or .bin.")],
    out: Annotated[str, typer.Option(help="Where to write; else beside it, as .safetensors.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    unsafe_pickle: Annotated[
        bool, typer.Option("--unsafe-pickle", help="You know that a pickle can run any program.")
    ] = False,
) -> None:
    """Make safetensors of a pickle, in a process of its own where nothing but tensors is allowed.

    danqing models convert old.ckpt --unsafe-pickle
    """
    from danqing.weights.detect import identify
    from danqing.weights.pickles import convert_pickle
    from danqing.weights.tensor_files import read_header

    if not unsafe_pickle:
        raise BadBrief(
            f"{str(file)!r} is a pickle, made to run programs: with --unsafe-pickle it is read in a process "
            "of its own, with nothing but tensors allowed; better fetch the safetensors of the same model"
        )
    target = Path(out) if out else file.with_suffix(".safetensors")
    if target.exists() and not overwrite:
        raise BadBrief(f"{str(target)!r} is there already: choose another with --out, or give --overwrite")
    converted = convert_pickle(file, target)
    print(f"{target} is {identify(read_header(target))}, {converted.tensors} tensors")
    if converted.left_out:
        some = ", ".join(converted.left_out[:4])
        print(f"left out, as no tensors: {some}{' and others' * (len(converted.left_out) > 4)}")


@app.command()
def doctor(
    context: typer.Context,
    name: Name,
    full: Annotated[
        bool, typer.Option("--full", help="Paint three prompts by danqing and by diffusers, and compare.")
    ] = False,
) -> None:
    """Open a model and look whether all of it is well.

    danqing models doctor sd15 --full
    """
    from danqing.evaluation.doctor import examine

    place = shipped_models().get(name) or find_place(name)
    if place is None:
        raise BadBrief(not_there(name) or unknown_model(name))
    device = getattr(context.obj, "device", "auto")
    bad = 0
    for finding in examine(place, full=full, device=device):
        bad += not finding.good
        _console().print(f"{'ok ' if finding.good else 'BAD'} {finding.what}: {finding.result}")
    if bad:
        raise DanqingError(f"{bad} of these are not as they should be: fetch another copy of {name}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True)


def _list_things(model: str, console: Console) -> None:
    names = [name for name, folder in shipped_models().items() if read_card(folder).closed_vocabulary]
    if model not in names:
        raise BadBrief(
            f"--words {model}: there is no list of what it has learned; there is of {', '.join(names)}"
        )
    for thing, chinese in vocabulary().items():
        console.print(f"{thing} {chinese}")


def _list_models(console: Console) -> None:
    folders = shipped_models()
    if not folders:
        console.print("no models are shipped with this copy; paint with --model FOLDER")
    for name, folder in folders.items():
        console.print(name, style="bold")
        for label, value in _facts(read_card(folder)).items():
            console.print(f"  {label:<9} {value}")
    others = {
        "your list (danqing models add)": listed_models(),
        "in the cache of the hub": cached_models(),
    }
    for title, places in others.items():
        if places:
            console.print(title, style="bold")
        for name, place in places.items():
            console.print(f"  {name}  {place}{'' if place.exists() else '  (no longer there)'}")


def _facts(card: Card) -> dict[str, str]:
    size = f"{card.width * card.scale}x{card.height * card.scale}"
    native = f" ({card.width}x{card.height} enlarged {card.scale} times)" if card.scale > 1 else ""
    return {
        "paints": card.summary,
        "size": f"{size}{native}, sides in steps of {card.size_multiple * card.scale}",
        "steps": " of ".join(filter(None, (str(card.steps), card.sampler))) + f", guidance {card.guidance:g}",
        "fast": f"{card.fast.steps} steps, guidance {card.fast.guidance:g}" if card.fast else "no",
        "prompt type": card.prompt_type,
        "can": ", ".join(sorted(card.can)),
        "styles": "; ".join(f"{name} ({words})" for name, words in card.styles.items()) or "none",
        "licence": card.licence,
        "paper": f"arXiv {card.paper} ({card.family}, {card.year})",
    }
