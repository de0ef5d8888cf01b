"""`danqing paint` by a server of the same user: the same pictures, and what is painted here instead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from danqing.core.picture import Picture
from danqing.interfaces.cli import main as cli
from danqing.interfaces.local_socket import LocalServer, LocalSocket, local_servers, sockets_folder
from tests.command_line import Answer, Ask, pictures, python
from tests.server import Server

TOKEN = "only for this user"
WORDS = ("paint", "--model", "tiny", "--native", "--steps", "3", "--seed", "7")
PATIENT = "import danqing.interfaces.cli.hand_over as hand_over; hand_over._PATIENCE = 60\n"
LONG = ("paint", "--model", "tiny", "--native", "--steps", "100", "--sampler", "ddim", "--seed", "7")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A short folder for the sockets, which commands and servers of these tests use."""
    with tempfile.TemporaryDirectory(prefix="dq") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        patch.setenv("DANQING_SERVER", "auto")
        yield Path(folder)


@pytest.fixture(scope="module")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: ARG001
    server = Server(tmp_path_factory.mktemp("studio"), "--token", TOKEN)
    server.client.headers["Authorization"] = f"Bearer {TOKEN}"
    server.wait(server.post("paint", prompt="a cat", model="tiny", native=True, steps=1)["id"])
    yield server
    assert server.stop() == 0
    assert list(sockets_folder().iterdir()) == []


@pytest.fixture
def command(
    home: Path,  # noqa: ARG001
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Ask:
    """The command line in an empty folder that knows the model of the server."""
    folder = next((Path(server.folder) for server, _ in local_servers()), None)
    (tmp_path / "models").symlink_to((folder or tmp_path_factory.mktemp("none")) / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("danqing.interfaces.cli.hand_over._PATIENCE", 60)  # on a machine that is busy

    def run(*argv: str) -> Answer:
        code = cli.run(argv)
        return Answer(code, *capfd.readouterr())

    return run


def metadata(picture: Picture) -> dict[str, Any]:
    """All that a picture says, but how long it took."""
    return {"brief": picture.brief, "info": picture.info.model_copy(update={"seconds": 0})}


@pytest.mark.parametrize(
    "words",
    [
        ["a red apple"],
        ["a {red|blue|green} apple --no text --ar 3:2 --chaos 20", "--count", "2", "--out", "apples/"],
        ["--out", "one.webp", "--background", "transparent", "一只兔子"],
        ["photo.png a dog --iw 2"],
    ],
)
def test_a_server_paints_the_same_files(command: Ask, server: Server, words: list[str]) -> None:
    Image.new("RGB", (40, 32), "orange").save("photo.png")
    answer = command(*WORDS, *words)
    assert answer.code == 0, answer.err
    assert f"the studio at {server.url} paints" in answer.err
    remote = {name: Picture.open(name) for name in answer.out.split()}
    assert sorted(remote) == [name for name in pictures() if name != "photo.png" and "models" not in name]
    for name in remote:
        Path(name).unlink()
    local = command(*WORDS, *words, "--no-server")
    assert (local.code, local.out) == (0, answer.out)
    assert "studio" not in local.err
    for name, picture in remote.items():
        again = Picture.open(name)
        assert again.image.tobytes() == picture.image.tobytes()
        if not name.endswith("-grid.png"):
            assert metadata(again) == metadata(picture)


def test_facts_are_alike_for_programs(command: Ask, server: Server) -> None:  # noqa: ARG001
    def facts(*more: str) -> Any:
        answer = command(*WORDS, "a zzqx", "--json", "--quiet", "--out", f"{len(more)}/", *more)
        assert answer.err == ""
        record = json.loads(answer.out)
        return {name: value for name, value in record.items() if name not in ("seconds", "path")}

    assert facts() == facts("--no-server")


def test_it_needs_no_torch(command: Ask, server: Server) -> None:
    assert command is not None
    code = PATIENT + (
        f"import sys; from danqing.interfaces.cli.main import run; code = run({[*WORDS, 'a red apple']!r})\n"
        "print(code, sorted({'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(python(code), capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert server.url in done.stderr


def test_what_is_refused_here_is_refused_before_a_server_is_asked(command: Ask, server: Server) -> None:
    before = len(server.client.get("/v1/jobs").json()["data"])
    assert command(*WORDS, "a cat", "--sampler", "none-such").code == 2
    assert command(*WORDS).code == 2
    assert len(server.client.get("/v1/jobs").json()["data"]) == before


@pytest.mark.parametrize(
    ("before", "more", "variable"),
    [
        ([], ["--no-server"], "auto"),
        ([], [], "off"),
        (["--device", "cpu"], [], "auto"),
        ([], ["--batch", "2"], "auto"),
    ],
)
def test_what_a_server_does_not_paint_is_painted_here(
    command: Ask,
    server: Server,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    before: list[str],
    more: list[str],
    variable: str,
) -> None:
    monkeypatch.setenv("DANQING_SERVER", variable)
    answer = command(*before, *WORDS, "a cat", *more)
    assert answer.code == 0
    assert "studio" not in answer.err


def test_another_model_of_the_same_name_is_painted_here(command: Ask, server: Server) -> None:
    models = Path("models").resolve()
    Path("models").unlink()
    Path("models").mkdir()
    Path("models/tiny").symlink_to(models / "tiny")
    assert server.url in command(*WORDS, "a cat").err  # the same folder by another path
    Path("models/tiny").unlink()
    os.system(f"cp -r {models / 'tiny'} models/tiny")
    answer = command(*WORDS, "a cat")
    assert answer.code == 0
    assert "studio" not in answer.err


def test_the_setting_turns_it_off(command: Ask, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("config", "set", "server", "off").code == 0
    monkeypatch.delenv("DANQING_SERVER")
    assert "studio" not in command(*WORDS, "a cat").err
    assert command("config", "set", "server", "maybe").code == 2
    monkeypatch.setenv("DANQING_SERVER", "perhaps")
    assert "auto, off" in command(*WORDS, "a cat").err
    monkeypatch.setenv("DANQING_SERVER", "auto")
    assert server.url in command(*WORDS, "a cat").err


def test_beside_a_busy_server_it_paints_here(command: Ask, server: Server) -> None:
    job = server.post("paint", prompt="a cat", model="tiny", native=True, steps=1000, sampler="ddim")["id"]
    try:
        answer = command(*WORDS, "a cat")
    finally:
        server.client.delete(f"/v1/jobs/{job}")
        server.wait(job)
    assert answer.code == 0
    assert "studio" not in answer.err


def start(*argv: str) -> subprocess.Popen[str]:
    """A command in a process of its own that Ctrl-C reaches, as in a shell."""
    code = PATIENT + (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.argv = ['danqing', *{list(argv)!r}]; from danqing.interfaces.cli.main import main; main()"
    )
    return subprocess.Popen(python(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def running_job(server: Server, before: set[str], process: subprocess.Popen[str]) -> str:
    """The job that a command began since `before`, once it paints."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        for job in server.client.get("/v1/jobs").json()["data"]:
            if job["id"] not in before and job["state"] == "running" and job["step"] > 0:
                return str(job["id"])
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no job runs: {process.communicate()}")


def jobs(server: Server) -> set[str]:
    return {job["id"] for job in server.client.get("/v1/jobs").json()["data"]}


def test_ctrl_c_cancels_the_job(command: Ask, server: Server) -> None:
    assert command is not None
    before = jobs(server)
    process = start(*LONG, "a cat")
    job = running_job(server, before, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "danqing: cancelled"
    assert server.wait(job)["state"] == "cancelled"
    assert pictures() == [] or all("models" in name for name in pictures())


def test_a_job_that_is_cancelled_in_the_studio_is_not_painted_here(command: Ask, server: Server) -> None:
    assert command is not None
    before = jobs(server)
    process = start(*LONG, "a cat")
    server.client.delete(f"/v1/jobs/{running_job(server, before, process)}")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert err.splitlines()[-1] == f"danqing: it was cancelled in the studio at {server.url}"


def test_a_server_that_dies_leaves_it_to_the_command(
    home: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(tmp_path_factory.mktemp("dying"))
    monkeypatch.chdir(server.folder)
    process = start(*LONG, "a cat")
    try:
        running_job(server, set(), process)
    finally:
        server.stop(signal.SIGKILL)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert f"the studio at {server.url} stopped: painting here" in err
    assert [str(path) for path in Path("paintings").iterdir()] == out.split()
    stale = {path.suffix for path in sockets_folder().iterdir()}
    assert stale == {".socket", ".json"}  # it was killed: the next one cleans up
    assert server.url not in [other.url for other, _ in local_servers()]
    with LocalSocket(replace(OTHER, url=server.url)) as another:
        assert len(list(sockets_folder().glob("*.socket"))) == 1 + len(list(local_servers()))
        assert another.sockets


OTHER = LocalServer("http://127.0.0.1:1", None, "/nowhere", "auto", None, "eager")


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dq") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / "danqing"


def listening(server: LocalServer) -> LocalSocket:
    """A socket that is announced and listened at; to be closed."""
    place = LocalSocket(server).__enter__()
    place.sockets[0].listen()
    place.announce()
    return place


def test_only_the_user_can_read_and_reach_it(own_home: Path) -> None:
    place = listening(replace(OTHER, token="secret"))
    assert own_home.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in own_home.glob("*.json"))
    assert [server for server, _ in local_servers()] == [replace(OTHER, token="secret")]
    place.withdraw()
    assert list(local_servers()) == []
    place.__exit__()
    assert list(own_home.iterdir()) == []


@pytest.mark.parametrize("trick", ["open folder", "link", "owner"])
def test_a_folder_that_others_could_have_made_is_not_trusted(own_home: Path, trick: str) -> None:
    place = listening(OTHER)
    assert len(list(local_servers())) == 1
    if trick == "open folder":
        own_home.chmod(0o755)
    elif trick == "link":
        own_home.rename(own_home.with_name("theirs"))
        own_home.symlink_to("theirs")
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(own_home, 12345, -1)
    assert list(local_servers()) == []
    with LocalSocket(OTHER) as other:  # nor does a server listen there
        assert other.sockets == []
        other.announce()
    if os.geteuid() == 0:
        os.chown(own_home, 0, -1)
    place.__exit__()


def test_a_socket_of_another_user_is_not_talked_to(own_home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    place = LocalSocket(OTHER).__enter__()
    own_home.parent.chmod(0o711)
    listen = (
        f"import os, socket, sys; s = socket.socket(fileno={place.sockets[0].fileno()}); os.setuid(12345)\n"
        "s.listen(); print('ready', flush=True); sys.stdin.read()"
    )
    fd = place.sockets[0].fileno()
    with subprocess.Popen(
        [sys.executable, "-c", listen],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[fd],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        place.announce()
        assert list(local_servers()) == []
        process.kill()
    place.__exit__()


def test_what_is_stale_or_strange_is_skipped_at_once(own_home: Path) -> None:
    good = listening(OTHER)
    for number, text in enumerate(
        ["", "[]", '{"url": 1}', json.dumps({**asdict(OTHER), "version": "0.0.1"})]
    ):
        (own_home / f"{number}.json").write_text(text)
    (own_home / "dead.json").write_text(json.dumps(asdict(OTHER)))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(own_home / "dead.socket"))
    elsewhere = replace(OTHER, package="/another/danqing")
    other = listening(elsewhere)
    assert not (own_home / "dead.json").exists()  # a new server cleans up
    (own_home / "gone.json").write_text(json.dumps(asdict(OTHER)))  # without a socket
    times = []
    for _ in range(5):
        start = time.perf_counter()
        assert [server for server, _ in local_servers()] == [OTHER]
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
    with suppress(OSError):
        other.__exit__()
    good.__exit__()


def test_a_path_that_is_too_long_for_a_socket_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("x" * 120)))
    with LocalSocket(OTHER) as place:
        assert place.sockets == []
        place.announce()
    assert list(local_servers()) == []
