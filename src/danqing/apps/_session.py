"""Keeps models open between requests. Imports torch only when a model is opened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from functools import cache, partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from danqing.apps._adapter_files import AdapterFiles
from danqing.apps._parameter_bytes import parameter_bytes
from danqing.apps._registry import App, find_app, names
from danqing.apps._style_packs import StylePack, packs
from danqing.core.card import Card, find_card
from danqing.core.errors import BadBrief, unknown
from danqing.core.progress import ProgressCallback, no_progress
from danqing.tuning.adapter_names import adapters_in
from danqing.weights.model_list import find_place, not_there
from danqing.weights.shipped import shipped_models, unknown_model

if TYPE_CHECKING:
    from danqing.apps._inputs import PaintInputs
    from danqing.apps._zero_shot import ScorerEnsemble
    from danqing.core.brief import Brief
    from danqing.core.painter import Painter
    from danqing.families.clip import ClipScorer

T = TypeVar("T")
GIB = 2**30


class Session:
    """Open models, kept warm under a memory budget, on one device; two threads may use it at once.

        with danqing.Session(device="cuda") as session:
            [picture] = session.paint("a red apple, 3d style", seed=7)

    Every app is a method: `session.redraw(...)` takes what `danqing.redraw(...)` takes.

    device: "auto" (a GPU where PyTorch sees one), "cpu", "cuda", "cuda:1" or "mps".
    dtype: the dtype of the networks, "float32", "bfloat16" or "float16"; None is float32.
    backend: what executes the networks: "eager" (PyTorch itself), "openvino", "openvino-bf16", "compile", or
        "auto" for the fastest one that is installed and tested. Eager runs what another cannot run.
    threads: CPU threads of PyTorch in this process; None does not change them.
    memory_budget: bytes of weights that stay open; the least recently used model is closed first.
    models, adapters, styles: folders in which names are looked up, besides those shipped with danqing.
        ControlNets, T2I-Adapters and IP-Adapters are in the folder `controls` next to that of the adapters.
    """

    named_only: ClassVar[bool] = False
    """Whether requests may use names from these folders only, and no paths."""

    def __init__(
        self,
        *,
        device: str = "auto",
        dtype: str | None = None,
        backend: str = "eager",
        threads: int | None = None,
        memory_budget: int = 6 * GIB,
        models: str | Path = "models",
        adapters: str | Path = "adapters",
        styles: str | Path = "styles",
    ) -> None:
        self.device, self.dtype, self.backend = device, dtype, backend
        self.threads, self.memory_budget = threads, memory_budget
        self.models, self.adapters, self.styles = Path(models), Path(adapters), Path(styles)
        self.controls = self.adapters.parent / "controls"
        self.new_adapters = self.adapters  # the folder for newly trained adapters
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._painter: Painter | None = None
        self._lock = RLock()

    @classmethod
    def of(cls, painter: Painter, **options: Any) -> Self:
        """A session in which `painter` replaces every model that a request names.

        options: further arguments of the class, such as `adapters`.
        """
        session = cls(**options)
        session._painter = painter
        return session

    def card(self, model: str) -> Card | None:
        """The card of a model, without opening the model.

        None if it has no card, as folders of other programs and single files.

        Raises:
            BadBrief: there is no such model, folder or file.
            BadWeights: the card cannot be read.
        """
        if self._painter is not None:
            return self._painter.card
        return find_card(self.place_of(model))

    def open_card(self, model: str) -> Card:
        """The card of a model; a model without a card is opened for it. Raises as `card` and `painter`."""
        return self.card(model) or self.painter(model).card

    @property
    def painter_is_fixed(self) -> bool:
        """Whether one painter replaces all models; see `of`."""
        return self._painter is not None

    def place_of(self, model: str) -> Path:
        """The path of a model: a shipped one, one in the folder `models`, or see `find_place`.

        Raises:
            BadBrief: there is none.
        """
        place = self.model_places().get(model)
        if place is None and self.named_only:
            raise BadBrief(unknown("model", model, self.model_places()))
        named = self.models / model
        with suppress(OSError):  # raised for a name that is too long for a file
            place = place or (named if named.exists() else None)
        place = place or find_place(model)
        if place is None or not place.exists():
            raise BadBrief(not_there(model) or unknown_model(model))
        return place

    def vae_place(self, name: str) -> Path:
        """The path of a VAE: in the folder `models`, or a path itself, or see `find_place`.

        Raises:
            BadBrief: there is none.
        """
        own = {place.stem: place for place in sorted(self.models.glob("*.safetensors"))}
        places = {**own, **self.model_places()}
        place = places.get(name)
        if place is None and not self.named_only:
            place = find_place(name)
        if place is None or not place.exists():
            raise BadBrief(f"{unknown('VAE', name, places)}, or give its file or folder")
        return place

    def model_places(self) -> dict[str, Path]:
        """Name -> path of the shipped models and of those in the folder `models`."""
        own = {path.name: path for path in sorted(self.models.glob("*")) if _is_model(path)}
        return {**own, **shipped_models()}

    def painter_for(self, choice: Brief | PaintInputs) -> Painter:
        """The painter with the model, the VAE and the refiner of a request.

        Raises:
            BadBrief: one of them does not exist, or they do not fit together.
            BadWeights: one of them cannot be opened.
        """
        painter = self.painter(choice.model)
        if choice.vae is not None:
            painter = self._with_vae(painter, choice.vae)
        if choice.refiner is not None:
            from danqing.families.stable_diffusion.refiner import with_refiner

            painter = with_refiner(painter, self.painter(choice.refiner), choice.refiner_at)
        return painter

    def _with_vae(self, painter: Painter, vae: str) -> Painter:
        from danqing.families.stable_diffusion.vae import open_vae, with_vae

        place = self.vae_place(vae)
        return with_vae(painter, self.part(place, painter, open_vae), vae)

    def painter(self, model: str) -> Painter:
        """The painter of a model, opened at its first use or after the memory budget has closed it.

        Raises:
            BadBrief: there is no such model or device.
            BadWeights: the model cannot be opened.
        """
        if self._painter is not None:
            return self._painter

        def open_it() -> Painter:
            from danqing.families import open_painter

            if self.threads is not None:
                import torch

                torch.set_num_threads(self.threads)
            return open_painter(str(place), self.device, self.dtype, self.backend)

        place = self.place_of(model)
        return self._warm(f"painter {place.resolve()}", open_it)

    def open_models(self) -> list[str]:
        """The names of the models that are open."""
        return [
            name for name, place in self.model_places().items() if f"painter {place.resolve()}" in self._open
        ]

    def part(self, place: Path, painter: Painter, open_it: Callable[[Path, Painter], T]) -> T:
        """The result of `open_it(place, painter)`, which stays open as models do. Raises as `open_it`."""
        key = f"{open_it.__name__} {place.resolve()} for {painter.card.name}"
        return self._warm(key, lambda: open_it(place, painter))

    def clip_scorer(self, place: str | None = None) -> ClipScorer:
        """The shipped CLIP, or the one in a folder. Raises BadWeights if it cannot be opened."""
        from danqing.families import open_clip_scorer

        return self._warm(f"clip {place}", lambda: open_clip_scorer(place))

    def shipped_clip_scorer(self) -> ClipScorer | None:
        """The shipped CLIP, or None where this installation does not have it."""
        from danqing.families import shipped_clip_scorer

        return self._warm("shipped clip", shipped_clip_scorer)

    def classifier(self, place: str | None = None) -> ClipScorer | ScorerEnsemble:
        """The zero-shot classifier: the shipped CLIP with the judge, or the CLIP in a folder.

        Raises:
            BadWeights: it cannot be opened.
        """
        from danqing.apps._zero_shot import open_zero_shot

        return self._warm(f"classifier {place}", lambda: open_zero_shot(place))

    def style_packs(self) -> dict[str, StylePack]:
        """Name -> style pack, of the shipped ones and those in the folder `styles`."""
        return packs(self.styles)

    def adapter_files(self, model: str | None = None) -> AdapterFiles:
        """Name -> file of the adapters in the folder `adapters`, and of those that came with a model.

        Raises:
            BadBrief: there is no such model.
        """
        own: Mapping[str, Path] = {}
        if self._painter is not None:
            own = getattr(self._painter, "adapters", {})
        elif model is not None:
            own = adapters_in(self.place_of(model) / "adapters")
        return AdapterFiles({**adapters_in(self.adapters), **own}, named_only=self.named_only)

    def run(self, app: App[Any, T], inputs: Any, progress: ProgressCallback = no_progress) -> Any:
        """Run an app, and return its result; pictures come as a list. One request runs at a time."""
        with self._turn(app, inputs):
            result = app.run(inputs, self, progress)
            return list(result) if isinstance(result, Iterator) else result

    def stream(
        self, app: App[Any, Iterator[T]], inputs: Any, progress: ProgressCallback = no_progress
    ) -> Iterator[T]:
        """Run an app, and yield its pictures, each as soon as it is finished."""
        with self._turn(app, inputs):
            yield from app.run(inputs, self, progress)

    def close(self) -> None:
        """Close all models. A later request opens them again."""
        with self._lock:
            self._open.clear()

    def _turn(self, _app: App[Any, Any], _inputs: Any) -> AbstractContextManager[Any]:
        """The context in which a request runs; here it excludes all other requests."""
        return self._lock

    def _warm(self, key: str, open_it: Callable[[], T]) -> T:
        """The open object with `key`, opened first if necessary; closes others above the memory budget."""
        with self._lock:
            model: T = self._open[key] if key in self._open else open_it()
            self._open[key] = model
            self._open.move_to_end(key)
            while len(self._open) > 1 and sum(map(parameter_bytes, self._open.values())) > self.memory_budget:
                self._open.popitem(last=False)
            return model

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in names():
            raise AttributeError(f"a Session has no {name!r}; its apps are {', '.join(names())}")
        return partial(find_app(name), session=self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NamedSession(Session):
    """A session for servers: requests may use names from its folders only, and no paths."""

    named_only = True


@cache
def default_session() -> Session:
    """The session of `danqing.paint` and the other functions."""
    return Session()


def _is_model(path: Path) -> bool:
    return path.suffix == ".safetensors" or any(
        (path / name).is_file() for name in ("card.json", "model_index.json")
    )
