"""Downloads a model from the hub: only the files that a painter needs, into the hub library's shared cache.

Interrupted downloads resume. Each large file is checked against the SHA-256 that the hub states.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danqing.core.errors import BadBrief, DanqingError
from danqing.weights.model_list import MOVED, hub_cache

_FOLDERS = (
    *("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    *("scheduler", "low_res_scheduler"),
)
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|model)(?P<variant>\.\w+)?(?P<part>-\d+-of-\d+)?\.safetensors"
)


@dataclass(frozen=True)
class HubFile:
    """A file on the hub: path in the repository, size in bytes, and SHA-256 if the hub states it."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class HubModel:
    """The files to download from a repository.

    revision: the commit.
    licence: as stated in the repository.
    """

    repo: str
    revision: str
    licence: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)

    def cached_path(self, file: HubFile) -> Path:
        """The path that the file has in the cache after the download."""
        folder = hub_cache() / f"models--{self.repo.replace('/', '--')}"
        return folder / "snapshots" / self.revision / file.path


def find_on_hub(repo: str, revision: str | None = None, variant: str = "", file: str = "") -> HubModel:
    """Find the files of a repository that a painter needs.

    variant: "fp16" for weights in half precision.
    file: the name of the single file to use, if there are several.

    Raises:
        DanqingError: the repository does not exist or needs consent, or there is no network.
        BadBrief: it contains no model that opens, or several single files and none is chosen.
    """
    from huggingface_hub import HfApi

    repo = MOVED.get(repo, repo)
    with _one_line(repo):
        info = HfApi(endpoint=_endpoint()).model_info(repo, revision=revision, files_metadata=True)
    listing = tuple(
        HubFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in info.siblings or ()
    )
    card: Any = info.card_data or {}
    licence = str(card.get("license_name") or card.get("license") or "not stated: ask its makers")
    return HubModel(repo, str(info.sha), licence, needed_files(repo, listing, variant, file))


def needed_files(
    repo: str, listing: tuple[HubFile, ...], variant: str = "", file: str = ""
) -> tuple[HubFile, ...]:
    """The files in `listing` that a painter needs; see `find_on_hub`."""
    singles = [each for each in listing if each.path.endswith(".safetensors") and "/" not in each.path]
    if file:
        chosen = [each for each in singles if each.path == file]
        if not chosen:
            raise BadBrief(f"{repo} has no {file}: choose from {', '.join(each.path for each in singles)}")
        return tuple(chosen)
    if any(each.path == "model_index.json" for each in listing):
        return tuple(each for each in listing if _is_needed(each.path, listing, variant))
    if len(singles) == 1:
        return tuple(singles)
    if singles:
        raise BadBrief(f"{repo} has several files: choose one with --file {singles[0].path}")
    raise BadBrief(f"{repo} holds no diffusers folder and no .safetensors file: give another model")


def _is_needed(path: str, listing: tuple[HubFile, ...], variant: str) -> bool:
    folder, _, name = path.rpartition("/")
    if path == "model_index.json":
        return True
    if folder not in _FOLDERS:
        return False
    match = _WEIGHTS.fullmatch(name)
    if match is None:
        return name.endswith((".json", ".txt")) and not (name.endswith("index.json") and variant)
    suffix = f".{variant}" if variant else ""
    theirs = [m for each in listing if (m := _WEIGHTS.fullmatch(each.path.removeprefix(f"{folder}/")))]
    has_it = any((m["variant"] or "") == suffix for m in theirs)
    return (match["variant"] or "") == (suffix if has_it else "")


def fetch(model: HubModel) -> Path:
    """Download the files that are not in the cache yet, with a progress bar.

    Returns the folder or single file.

    Raises:
        DanqingError: the network failed (call again to resume), the disk is full, or a file differs from what
            the hub states.
    """
    from huggingface_hub import hf_hub_download

    place = Path()
    for file in model.files:
        with _one_line(model.repo):
            place = Path(
                hf_hub_download(
                    model.repo,
                    file.path,
                    revision=model.revision,
                    cache_dir=hub_cache(),
                    endpoint=_endpoint(),
                )
            )
        _check(place, file)
    is_single = len(model.files) == 1 and "/" not in model.files[0].path and place.suffix == ".safetensors"
    return place if is_single else model.cached_path(HubFile("model_index.json", 0)).parent


def _check(place: Path, file: HubFile) -> None:
    """Check a file against the size and digest on the hub; a wrong one is removed, to be downloaded again.

    Raises:
        DanqingError: it differs.
    """
    if file.sha256 is None:
        return
    digest = hashlib.sha256()
    with place.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
    if digest.hexdigest() != file.sha256:
        place.resolve().unlink()
        place.unlink(missing_ok=True)
        raise DanqingError(f"{file.path} came damaged (its SHA-256 differs): it was removed, fetch it again")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _one_line(repo: str) -> Iterator[None]:
    """Convert errors of the hub's library and of the network to one-line messages with the fix."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise DanqingError(
            f"{repo} asks for consent: accept its licence on its page at the hub, then run hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise DanqingError(
            f"the hub has no {repo}, or it is private: check the name or run hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise DanqingError(f"{repo} has no such revision: leave --revision out") from None
    except errors.HFValidationError:
        raise BadBrief(f"{repo!r} is no id of the hub: write owner/name") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        raise DanqingError(
            f"{repo} is not in the cache, and there is no network: go online and add it"
        ) from None
    except Exception as error:  # network errors differ between versions of the library
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DanqingError(f"{repo} could not be fetched ({line}): run the same again, it goes on") from None
