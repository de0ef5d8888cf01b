"""Routes for the boards of the gallery."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from danqing.interfaces.server.context import Id, Owner, StudioParam
from danqing.interfaces.server.views import Page, iso
from danqing.studio.boards import NAME_MAX, Board

router = APIRouter()


class BoardView(BaseModel):
    """A board. count: its pictures that are not in the trash. cover: the id of the newest of them."""

    id: str = Field(examples=["01M8GVC346CM0MX1NQZRDSH3JT"])
    name: str = Field(examples=["dragons"])
    created: str | None
    count: int
    cover: str | None


class BoardName(BaseModel):
    """How a board is called; no two of one owner have the same name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=NAME_MAX, examples=["dragons"])


@router.get("/v1/boards")
def list_boards(studio: StudioParam, owner: Owner) -> Page[BoardView]:
    """All boards, by name."""
    return Page(data=[_view(board) for board in studio.store.boards.page(owner)])


@router.post("/v1/boards", status_code=201)
def add_board(new: BoardName, studio: StudioParam, owner: Owner) -> BoardView:
    """A new board without pictures."""
    return _view(studio.store.boards.add(owner, new.name))


@router.patch("/v1/boards/{board}")
def rename_board(board: Id, change: BoardName, studio: StudioParam, owner: Owner) -> BoardView:
    """Give a board another name."""
    return _view(studio.store.boards.rename(owner, board, change.name))


@router.delete("/v1/boards/{board}", status_code=204)
def delete_board(board: Id, studio: StudioParam, owner: Owner) -> None:
    """Delete a board; its pictures stay."""
    studio.store.boards.delete(owner, board)


@router.put("/v1/boards/{board}/pictures/{picture}")
def put_on_board(board: Id, picture: Id, studio: StudioParam, owner: Owner) -> BoardView:
    """Put a picture on a board. A picture may be on several."""
    return _view(studio.store.boards.put(owner, board, picture))


@router.delete("/v1/boards/{board}/pictures/{picture}")
def take_off_board(board: Id, picture: Id, studio: StudioParam, owner: Owner) -> BoardView:
    """Take a picture off a board."""
    return _view(studio.store.boards.take(owner, board, picture))


def _view(board: Board) -> BoardView:
    return BoardView(
        id=board.id, name=board.name, created=iso(board.created), count=board.count, cover=board.cover
    )
