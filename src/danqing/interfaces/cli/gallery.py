"""`danqing gallery`: the pictures of a studio, from and to folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from danqing.core.errors import BadBrief, DanqingError
from danqing.interfaces.cli.language import say
from danqing.interfaces.cli.output_files import slug
from danqing.interfaces.cli.studio import FOLDER
from danqing.interfaces.cli.users import open_store

if TYPE_CHECKING:
    from danqing.studio.store import Store
    from danqing.studio.tables import PictureRow

app = typer.Typer(
    help="The pictures of a studio: taken in from folders, copied out, and held against their files.",
    add_completion=False,
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Option(envvar="DANQING_STUDIO", help="The folder of the studio.")]
User = Annotated[str, typer.Option(help="Whose gallery, where there are accounts.")]


@app.command("import")
def import_pictures(
    pictures: Annotated[Path, typer.Argument(help="A folder; what is below it counts too.")],
    user: User = "",
    meaning: Annotated[
        bool, typer.Option(help="Make them findable by what they show; takes a moment for each.")
    ] = True,
    folder: Folder = Path(FOLDER),
) -> None:
    """Take pictures into the gallery, with what they say of how they were made.

    A1111, ComfyUI, InvokeAI, Fooocus, NovelAI and danqing write it into their files; others are taken too.
    The files stay where they are, and what the gallery has already is not taken twice.

    danqing gallery import ~/stable-diffusion-webui/outputs
    """
    if not pictures.is_dir():
        raise DanqingError(f"{str(pictures)!r} is no folder: name one with pictures")
    with open_store(folder) as store:
        from danqing.studio.clip_index import ClipIndex
        from danqing.studio.imports import import_folder

        new = old = refused = 0
        for outcome in import_folder(store, _owner(store, user), pictures, ClipIndex() if meaning else None):
            new, old = new + outcome.new, old + (outcome.id is not None and not outcome.new)
            if outcome.id is None:
                refused += 1
                print(f"danqing: {say(outcome.why)}", file=sys.stderr)
    print(say(f"{new} new pictures, {old} there before, {refused} refused"))
    if refused and not new + old:
        raise DanqingError("none of the pictures could be taken")


@app.command("export")
def export_pictures(
    target: Annotated[Path, typer.Argument(help="A folder for the copies.")],
    user: User = "",
    star: Annotated[bool, typer.Option("--star", help="Only those with a star.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out how they were made.")] = False,
    folder: Folder = Path(FOLDER),
) -> None:
    """Copy the pictures out, named by their words and seed, and print the paths.

    danqing gallery export ~/Pictures/danqing --star --strip
    """
    with open_store(folder) as store:
        from danqing.studio.browse import Filter
        from danqing.studio.exports import export_pictures as copies

        which = Filter(_owner(store, user), star=star or None)
        for path in copies(store, which, target, _name, bare=strip):
            print(path)


@app.command("check")
def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend it.")] = False, folder: Folder = Path(FOLDER)
) -> None:
    """Hold the gallery against its files; the studio must not run meanwhile, and does it at its start.

    danqing gallery check --repair
    """
    with open_store(folder) as store:
        from filelock import FileLock, Timeout

        try:
            with FileLock(store.folder / "studio.lock", timeout=1):
                drift = store.sweep(repair=repair)
        except Timeout:
            raise DanqingError(
                f"another danqing uses {str(folder)!r}: stop it, or give another --folder"
            ) from None
    print(say(f"{drift['removed']} files without a picture, {drift['changed']} pictures without their file"))
    if any(drift.values()) and not repair:
        raise DanqingError("the gallery and its files differ: danqing gallery check --repair mends it")


def _owner(store: Store, user: str) -> str:
    """The id of the pictures' owner. Raises BadBrief."""
    from danqing.studio.accounts import LOCAL_USER

    if user:
        return store.accounts.get(user).id
    if store.accounts.exist():
        raise BadBrief("whose gallery: give --user NAME (danqing users list tells the names)")
    return LOCAL_USER.owner


def _name(row: PictureRow) -> str:
    return f"{slug(row.prompt)}-{row.id if row.seed is None else row.seed}"
