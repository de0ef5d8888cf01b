"""Backends execute networks, are held against eager, and what they cannot do eager does."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import danqing.execution.backends as backends_module
from danqing.apps import Session
from danqing.core.errors import BadBrief
from danqing.core.picture import Picture
from danqing.execution.backends import execute_with, forget_routes, open_backend, routes
from danqing.execution.call import Call, relative_difference
from danqing.execution.executor import Executor
from danqing.execution.exports import export_key, exports_folder, make_room
from danqing.execution.names import BACKENDS
from danqing.families.stable_diffusion.painter import random_painter
from danqing.nets.seamless import seamless
from danqing.nets.upscaler import Upscaler, UpscalerConfig
from tests.tiny import model_folder

CPU = torch.device("cpu")
QUICK = {"steps": 2, "seed": 3}
needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(autouse=True)
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DANQING_EXPORTS", str(tmp_path / "exports"))
    return tmp_path / "exports"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


class ByHand:
    """A backend that runs the network itself, adds `error`, and counts what it made and ran."""

    name, label, tolerance = "by-hand", "by-hand 1", 1e-3

    def __init__(self, error: float = 0.0) -> None:
        self.error, self.made, self.ran = error, 0, 0

    def program(self, network: nn.Module, call: Call) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        self.made += 1

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            self.ran += 1
            args, named = call.arguments(tensors)
            return [network.forward(*args, **named) + self.error]

        return run


class Failing(ByHand):
    def program(self, *_: object) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        raise RuntimeError("no such\noperation")


def upscaler() -> Upscaler:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Upscaler(UpscalerConfig(width=4, depth=2)).eval()
        nn.init.normal_(network.head.weight)
    return network


class One:
    """A painter of one network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def executables(self) -> dict[str, nn.Module]:
        return {"network": self.network}


def run_by(network: nn.Module, backend: ByHand) -> One:
    painter = One(network)
    execute_with(painter, backend)
    return painter


@torch.no_grad()
def test_a_network_is_run_by_its_backend_and_compared_once_for_each_shape() -> None:
    network, backend = upscaler(), ByHand()
    x = torch.randn(1, 4, 5, 6)
    expected = network(x)
    painter = run_by(network, backend)
    assert torch.equal(network(x), expected)
    assert torch.equal(network(x), expected)
    assert (backend.made, backend.ran) == (1, 3)  # one of them for the comparison
    network(torch.randn(2, 4, 5, 6))
    assert backend.made == 2
    assert routes(painter) == "by-hand 1"
    forget_routes(painter)
    assert routes(painter) == "eager"


@torch.no_grad()
def test_a_backend_that_differs_is_refused_in_one_line_and_never_used() -> None:
    network, backend = upscaler(), ByHand(error=0.5)
    x = torch.randn(1, 4, 5, 6)
    expected = network(x)
    painter = run_by(network, backend)
    with pytest.warns(UserWarning, match=r"by-hand differs in network by .*: eager does it") as caught:
        assert torch.equal(network(x), expected)
    assert len(caught) == 1
    assert torch.equal(network(x), expected)
    assert (backend.made, backend.ran) == (1, 1)
    assert routes(painter) == "eager"


@torch.no_grad()
@pytest.mark.parametrize("error", [float("nan"), float("inf")])
def test_what_is_not_finite_differs(error: float) -> None:
    network = upscaler()
    run_by(network, ByHand(error=error))
    with pytest.warns(UserWarning, match="differs"):
        assert network(torch.randn(1, 4, 5, 6)).isfinite().all()


@torch.no_grad()
def test_an_export_that_fails_is_eagers() -> None:
    network = upscaler()
    run_by(network, Failing())
    x = torch.randn(1, 4, 5, 6)
    with pytest.warns(UserWarning, match=r"by-hand cannot run network \(no such operation\): eager does it"):
        network(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(x)  # says it once


def _hook(network: Upscaler) -> Iterator[None]:
    handle = network.head.register_forward_hook(lambda *_: None)
    yield
    handle.remove()


def _borders(network: Upscaler) -> Iterator[None]:
    with seamless(network):
        yield


def _gradients(_: Upscaler) -> Iterator[None]:
    with torch.enable_grad():
        yield


@torch.no_grad()
@pytest.mark.parametrize("change", [_hook, _borders, _gradients])
def test_what_a_program_does_not_know_is_eagers_as_long_as_it_lasts(
    change: Callable[[Upscaler], Iterator[None]],
) -> None:
    network = upscaler()
    painter = run_by(network, ByHand())
    x = torch.randn(1, 4, 5, 6)
    for _ in change(network):
        network(x)
        assert routes(painter) == "eager"
    network(x)
    assert routes(painter) == "by-hand 1, eager: network"


@torch.no_grad()
@pytest.mark.parametrize(
    "train",
    [
        lambda network: network.head.weight.add_(1),
        lambda network: network.load_state_dict({k: v + 1 for k, v in network.state_dict().items()}),
        lambda network: network.load_state_dict(
            {k: v + 1 for k, v in network.state_dict().items()}, assign=True
        ),
        lambda network: network.to(torch.float64),
    ],
)
def test_a_network_that_was_trained_is_never_run_by_an_old_program(
    train: Callable[[Upscaler], object],
) -> None:
    network, backend = upscaler(), ByHand()
    run_by(network, backend)
    x = torch.randn(1, 4, 5, 6)
    network(x)
    before = backend.ran
    train(network)
    network(x.to(network.head.weight.dtype))
    assert backend.ran == before


@torch.no_grad()
def test_a_copy_of_a_network_is_its_own() -> None:
    network, backend = upscaler(), ByHand()
    run_by(network, backend)
    other = copy.deepcopy(network)
    other.head.weight.add_(1)
    x = torch.randn(1, 4, 5, 6)
    assert not torch.allclose(other(x), network(x))
    assert backend.ran == 2  # those of `network`


def test_a_call_comes_back_from_its_tensors() -> None:
    a, b = torch.ones(2), torch.zeros(3)
    call = Call.of((a, None), {"words": {"b": b}, "return_dict": False})
    args, named = call.arguments(call.tensors)
    assert args[0] is a
    assert args[1] is None
    assert named["words"]["b"] is b
    assert named["return_dict"] is False
    other = Call.of((b, None), {"words": {"b": a}, "return_dict": False})
    assert call.signature == other.signature
    assert call.shapes != other.shapes
    assert call.signature != Call.of((a, None), {"words": {"b": b}, "return_dict": True}).signature


def test_the_difference_is_relative_to_the_output() -> None:
    x = torch.randn(1000)
    assert relative_difference([x], [x]) == 0
    assert relative_difference([x * 1.01], [x]) == pytest.approx(0.01, rel=1e-3)
    assert relative_difference([x[:3]], [x]) == float("inf")


def test_the_key_of_an_export_knows_every_weight() -> None:
    one, other = upscaler(), upscaler()
    assert export_key(one) == export_key(other)
    assert export_key(one) != export_key(one, "another version")
    with torch.no_grad():
        other.head.bias[0] = torch.nextafter(other.head.bias[0], torch.tensor(1.0))
    assert export_key(one) != export_key(other)


def test_old_exports_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    make_room(tmp_path, 200)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "older"}


def test_unknown_and_missing_backends_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadBrief, match=r"unknown backend 'openvin': did you mean 'openvino'\?"):
        open_backend("openvin", CPU)
    with pytest.raises(BadBrief, match=r"backend 'compile' .* cuda"):
        open_backend("compile", torch.device("cuda"))
    monkeypatch.setattr(backends_module, "find_spec", lambda _: None)
    for name in ("openvino", "openvino-bf16"):
        with pytest.raises(BadBrief, match=r"needs a package: pip install 'danqing\[openvino\]'"):
            open_backend(name, CPU)
    assert open_backend("auto", CPU) is None
    assert open_backend("eager", CPU) is None


@needs_openvino
def test_openvino_is_refused_where_it_cannot_compute() -> None:
    with pytest.raises(BadBrief, match="paints on the CPU, not on cuda"):
        open_backend("openvino", torch.device("cuda"))
    with pytest.raises(BadBrief, match=r"not torch\.float16"):
        open_backend("openvino", CPU, torch.float16)
    assert open_backend("auto", torch.device("cuda")) is None
    assert open_backend("auto", CPU, torch.float16) is None
    automatic = open_backend("auto", CPU)
    assert automatic is not None
    assert automatic.name in BACKENDS


def pixels(picture: Picture) -> Tensor:
    return torch.frombuffer(bytearray(picture.image.tobytes()), dtype=torch.uint8).int()


@needs_openvino
def test_openvino_paints_what_eager_paints_and_says_so(folder: Path, exports: Path, tmp_path: Path) -> None:
    [eager] = Session().paint("a cat", model=str(folder), **QUICK)
    session = Session(backend="openvino")
    [picture] = session.paint("a cat", model=str(folder), **QUICK)
    assert (pixels(picture) - pixels(eager)).abs().max() <= 1
    assert picture.info.backend.startswith("openvino 20")
    assert "eager" not in picture.info.backend
    assert eager.info.backend == "eager"
    assert len(list(exports.glob("*/network.xml"))) == 3  # UNet, decoder, upscaler
    assert Picture.open(picture.save(tmp_path / "picture.png")).info.backend == picture.info.backend
    [seamless_one] = session.paint("a cat", model=str(folder), tile=True, **QUICK)
    [expected] = Session().paint("a cat", model=str(folder), tile=True, **QUICK)
    assert "eager: unet" in seamless_one.info.backend
    assert (pixels(seamless_one) - pixels(expected)).abs().max() <= 1
    [again] = session.paint("a cat", model=str(folder), **QUICK)
    assert again.image.tobytes() == picture.image.tobytes()


AGAIN = """
import sys
import torch
from danqing.execution.executor import Executor
from danqing.execution.openvino import OpenVino
from danqing.nets.upscaler import Upscaler, UpscalerConfig

def export(*_):
    raise SystemExit("exported again")

OpenVino._export = export
network = Upscaler(UpscalerConfig(width=4, depth=2)).eval()
network.load_state_dict(torch.load(sys.argv[1]))
network._compiled_call_impl = executor = Executor(network, "network", OpenVino("openvino", "f32", 1e-3))
with torch.no_grad():
    torch.save(network(torch.load(sys.argv[2])), sys.argv[3])
print(executor.routes)
"""


@needs_openvino
@torch.no_grad()
def test_another_process_finds_the_exports(exports: Path, tmp_path: Path) -> None:
    network, x = upscaler(), torch.randn(1, 4, 5, 6)
    backend = open_backend("openvino", CPU)
    assert backend is not None
    execute_with(One(network), backend)
    first = network(x)
    files = [str(tmp_path / name) for name in ("weights.pt", "x.pt", "output.pt")]
    torch.save(network.state_dict(), files[0])
    torch.save(x, files[1])
    environment = {**os.environ, "DANQING_EXPORTS": str(exports)}
    command = [sys.executable, "-c", AGAIN, *files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert backend.label in done.stdout
    assert torch.equal(torch.load(files[2]), first)


@needs_openvino
@torch.no_grad()
def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DANQING_EXPORTS", str(tmp_path / "file"))
    network, x = upscaler(), torch.randn(1, 4, 5, 6)
    expected = network(x)
    painter = One(network)
    execute_with(painter, open_backend("openvino", CPU))
    assert torch.allclose(network(x), expected, atol=1e-4)
    assert routes(painter).startswith("openvino")


@torch.no_grad()
def test_compile_runs_a_network_and_keeps_what_it_made(
    exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else it starts a process for each core
    network = upscaler()
    x = torch.randn(1, 4, 5, 6)
    expected = network(x)
    backend = open_backend("compile", CPU)
    assert backend is not None
    painter = One(network)
    execute_with(painter, backend)
    assert torch.allclose(network(x), expected, atol=1e-5)
    assert routes(painter).startswith("compile ")
    assert list(exports.glob("*/artifacts"))


def test_every_network_of_a_painter_gets_an_executor() -> None:
    painter = random_painter("tiny")
    execute_with(painter, ByHand())
    names = {
        network._compiled_call_impl.name
        for network in painter.executables().values()
        if isinstance(network._compiled_call_impl, Executor)
    }
    assert names == {"unet", "decoder", "upscaler"}
    execute_with(painter, None)
    assert not any(network._compiled_call_impl for network in painter.executables().values())


def test_a_painter_without_networks_says_so() -> None:
    with pytest.warns(UserWarning, match="runs no network of this model"):
        execute_with(object(), ByHand())


def test_exports_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DANQING_EXPORTS")
    assert exports_folder().parts[-2:] == ("danqing", "exports")
