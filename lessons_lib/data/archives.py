"""The registry of the real data sets, and how they get onto the disk: by download or from a local archive.

A data set is unpacked beside its place and moved there in one step, so a folder that is there is a whole one.
"""

from __future__ import annotations

import lzma
import os
import shutil
import socket
import stat
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PureWindowsPath
from typing import IO, cast
from urllib.parse import urlsplit

import pooch
import requests
from filelock import FileLock, Timeout
from PIL import Image
from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from lessons_lib.course import data_folder

CONNECT_SECONDS = 3.0  # no network must be told in under 5 s
STALL_SECONDS = 20.0
PAUSE_SECONDS = 1.0
CHUNK = 1 << 18
# An archive may take so many times the bytes of the download when it is unpacked: pictures do not shrink when they
# are packed, but another format of the same pictures may be larger. Each file takes at least a block of the disk.
GROWTH = 4
BLOCK = 4096


@dataclass(frozen=True)
class Layout:
    """What a complete copy of a data set looks like on the disk.

    Attributes:
        folder: its name inside the data folder.
        holds: how many files must match each pattern, as (least, most). Only the last part of a pattern may
            hold wildcards; case matters.
    """

    folder: str
    holds: Mapping[str, tuple[int, int]]

    def problems(self, folder: Path) -> list[str]:
        """What ``folder`` lacks, one sentence for each pattern; empty if it is complete."""
        return [
            f"{pattern}: {found:,} files instead of {_span(least, most)}"
            for pattern, (least, most) in self.holds.items()
            if not least <= (found := _matches(folder / pattern)) <= most
        ]


def _span(least: int, most: int) -> str:
    """The range in words: "5,000", or "120 to 2,500"."""
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _matches(pattern: Path) -> int:
    """How many files match ``pattern``, hidden ones (a Mac adds them to archives) left out."""
    if not pattern.parent.is_dir():
        return 0
    with os.scandir(pattern.parent) as entries:  # 60,000 Path objects are slow
        return sum(
            fnmatchcase(entry.name, pattern.name) and not entry.name.startswith(".") and entry.is_file()
            for entry in entries
        )


@dataclass(frozen=True)
class Archive:
    """One data set of the registry.

    Attributes:
        name: what it is called on the command line.
        title: what it is called in a sentence.
        content: what it holds, in a few words.
        url: where it is downloaded from.
        checksum: of the file at ``url``, as "md5:…" or "sha256:…".
        megabytes: the size of that download.
        known: checksum → note, for every archive whose content we know, ``checksum`` among them.
        filenames: what those archives are called, the download's own name first.
        layouts: the forms it can have on the disk, the preferred one first.
        licence: the terms it comes under.
        citation: whom to cite.
    """

    name: str
    title: str
    content: str
    url: str
    checksum: str
    megabytes: int
    known: Mapping[str, str]
    filenames: tuple[str, ...]
    layouts: tuple[Layout, ...]
    licence: str
    citation: str

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"python -m lessons_lib.data install {self.name}"


CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]

REGISTRY: Mapping[str, Archive] = {
    archive.name: archive
    for archive in (
        Archive(
            name="cifar10",
            title="CIFAR-10",
            content="50,000 + 10,000 pictures of 32×32, 10 classes",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            checksum="md5:c58f30108f718f92721af3b95e74349a",
            megabytes=171,
            known={
                "md5:c58f30108f718f92721af3b95e74349a": "Krizhevsky's original",
                "md5:a5f8c31371b63a406b23368042812d3c": "fastai's URLs.CIFAR, one folder a class",
                "sha256:4281c0e242ff09d552ebe2953187bc96496de98bc6081585ffd3d33deb19bdbb": (
                    "pictures re-encoded as JPEG by a public mirror, one folder a class"
                ),
            },
            filenames=("cifar-10-python.tar.gz", "cifar10.tgz"),
            layouts=(
                Layout("cifar-10-batches-py", dict.fromkeys(_CIFAR_BATCHES, (1, 1))),
                Layout(
                    "cifar10",
                    {  # the pattern takes .png and .jpg
                        f"{split}/{label}/*.[jp][pn]g": (count, count)
                        for split, count in (("train", 5_000), ("test", 1_000))
                        for label in CIFAR_CLASSES
                    },
                ),
            ),
            licence="none stated; free for research and teaching with the citation",
            citation='A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009',
        ),
        Archive(
            name="oxford-iiit-pet",
            title="Oxford-IIIT Pets",
            content="7,390 photographs of 37 breeds of cats and dogs (a sample has 370)",
            url="https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
            checksum="md5:5c4f3ee8e5d25df40f4fd59a7f44e54c",
            megabytes=792,
            known={
                "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c": "the authors' original",
                "md5:e4db5c768afd933bb91f5f594d7417a4": "fastai's URLs.PETS",
                "sha256:eb636cd53070e528a4bcab085bd4808e2a17a0b2f46e97ddda1679ed87b87de5": (
                    "a sample: 10 photographs of each breed"
                ),
            },
            filenames=("images.tar.gz", "oxford-iiit-pet.tgz", "oxford-iiit-pet-sample.tgz"),
            layouts=(
                Layout(
                    "oxford-iiit-pet",  # cats are written with a capital letter
                    {"images/[A-Z]*_*.jpg": (120, 2_500), "images/[a-z]*_*.jpg": (250, 5_100)},
                ),
            ),
            licence="CC BY-SA 4.0",
            citation='O. M. Parkhi, A. Vedaldi, A. Zisserman, C. V. Jawahar, "Cats and Dogs", CVPR 2012',
        ),
        Archive(
            name="hymenoptera",
            title="Hymenoptera",
            content="photographs of ants and bees, 244 to train and 153 to validate",
            url="https://download.pytorch.org/tutorial/hymenoptera_data.zip",
            # published in pytorch/tutorials, .jenkins/download_data.py
            checksum="sha256:fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209",
            megabytes=47,
            known={
                "sha256:fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209": (
                    "PyTorch's original"
                ),
                "sha256:6b3be2fed114c419ad82dc35642c5c62ee5b6274df81f7c6f7b7291df34e05cf": (
                    "PyTorch's files, packed as a tar archive"
                ),
            },
            filenames=("hymenoptera_data.zip", "hymenoptera_data.tgz"),
            layouts=(
                Layout(
                    "hymenoptera_data",
                    {
                        "train/ants/*.jp*g": (123, 123),
                        "train/bees/*.jp*g": (121, 121),
                        "val/ants/*.jp*g": (70, 70),
                        "val/bees/*.jp*g": (83, 83),
                    },
                ),
            ),
            licence="none stated: pictures from ImageNet and the web, for study only",
            citation='S. Chilamkurthy, "Transfer Learning for Computer Vision", PyTorch tutorials, 2017',
        ),
    )
}


@dataclass(frozen=True)
class Status:
    """Whether a data set is on the disk.

    Attributes:
        archive: its entry in the registry.
        folder: where it lies, or None.
        size: the bytes it takes there.
        problem: why a folder of its name cannot be used, else empty.
    """

    archive: Archive
    folder: Path | None
    size: int
    problem: str

    def __str__(self) -> str:
        """One or two lines for people: what it is, then where it is or how to get it."""
        head = f"{self.archive.name:16} {self.archive.content}"
        if self.folder:
            return f"{head}\n{'':16} installed in {self.folder} ({self.size / 1e6:,.0f} MB)"
        if self.problem:
            return f"{head}\n{'':16} {self.problem}"
        return f"{head}\n{'':16} not installed: {self.archive.command} ({self.archive.megabytes} MB)"


def status() -> tuple[Status, ...]:
    """What is installed and what is not, for every data set of the registry. Touches no network."""
    return tuple(_status(archive) for archive in REGISTRY.values())


def _status(archive: Archive) -> Status:
    """What is on the disk of one data set."""
    try:
        folder = _installed(archive)
    except ValueError as problem:
        return Status(archive, None, 0, str(problem))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder else 0
    return Status(archive, folder, size, "")


def require(name: str) -> Path:
    """The folder of an installed data set, which is installed first if it is missing.

    A missing one is taken from the folder named by the environment variable ``LESSONS_ARCHIVES`` if an
    archive of it lies there, else downloaded.

    Raises:
        ValueError: if ``name`` is not in the registry, or what is on the disk is incomplete or damaged.
        ConnectionError: if it is missing and cannot be downloaded; the text says how to get it.
    """
    return _installed(_find(name)) or install(name)


def install(name: str, source: str | Path | None = None) -> Path:
    """Put a data set into the data folder and say in one line what was taken; an installed one is left alone.

    Args:
        name: one of ``REGISTRY``.
        source: an archive on this machine (tar, compressed or not, or zip): then no network is used. None
            takes it from the folder ``LESSONS_ARCHIVES``, else downloads it.

    Returns:
        Its folder.

    Raises:
        ValueError: if ``name`` is unknown, or the archive is damaged, unsafe, not of this data set or far larger.
        FileNotFoundError: if there is no file ``source``.
        ConnectionError: if it cannot be downloaded; what arrived is kept and the next call goes on with it.
        OSError: if the disk is full or may not be written.
    """
    archive = _find(name)
    # asked before the lock, which cannot be made in a folder that may only be read
    if folder := _already(archive):
        return folder
    with _alone(archive):
        if folder := _already(archive):  # another process was faster
            return folder
        local = Path(source) if source else _nearby(archive)
        path = local or _download(archive)
        folder = _unpack(archive, path)
        if not local:
            path.unlink()
    print(f"{archive.title} is installed in {folder}.")
    return folder


def photographs(folder: Path) -> tuple[list[Path], str]:
    """The photographs in a folder, sorted, and the names of the files that are none, as one short text.

    A photograph is named .jpg or .jpeg and holds a picture in any format Pillow knows: some of Oxford's .jpg
    files are GIFs.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    good = [path for path in files if _is_photograph(path)]
    kept = set(good)
    names = [path.name for path in files if path not in kept]
    return good, ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _is_photograph(path: Path) -> bool:
    """Whether the name and the first bytes of a file are those of a photograph."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        try:
            Image.open(file)
        except Exception:  # damaged files make Pillow raise nearly anything
            return False
    return True


def _find(name: str) -> Archive:
    """The registry's entry called ``name``."""
    if name not in REGISTRY:
        raise ValueError(f"there is no data set {name!r}: choose one of {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _installed(archive: Archive) -> Path | None:
    """The folder of a complete copy, or None; ValueError if there is only an incomplete one."""
    incomplete = ""
    for layout in archive.layouts:
        folder = data_folder() / layout.folder
        if folder.exists():
            problems = layout.problems(folder)
            if not problems:
                return folder
            incomplete = f"{folder} is incomplete ({_summary(problems)}): move it away and install it again"
    if incomplete:
        raise ValueError(f"{incomplete} with `{archive.command}`")
    return None


def _already(archive: Archive) -> Path | None:
    """The same, and a line that says so."""
    if folder := _installed(archive):
        print(f"{archive.title} is already installed in {folder}: nothing to do.")
    return folder


def _summary(problems: list[str]) -> str:
    """The first problem, and how many more there are."""
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return problems[0] + more


def _nearby(archive: Archive) -> Path | None:
    """An archive of the data set in the folder named by ``LESSONS_ARCHIVES``, if there is one."""
    if not (folder := os.environ.get("LESSONS_ARCHIVES")):
        return None
    found = next((path for name in archive.filenames if (path := Path(folder, name)).is_file()), None)
    if found:
        print(f"Taking {archive.title} from {found} (LESSONS_ARCHIVES).")
    return found


@contextmanager
def _alone(archive: Archive) -> Iterator[None]:
    """Keep a second process, perhaps another notebook, from installing the same data set at the same time."""
    data_folder().mkdir(parents=True, exist_ok=True)
    lock = FileLock(data_folder() / f".{archive.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is installing {archive.title}: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unpack(archive: Archive, path: Path) -> Path:
    """Extract ``path`` into a temporary folder, check what came out and move it to its place in one step."""
    note = _known(archive, path)
    if note:
        print(f"{path.name}: checksum known, {note}.")
    workplace = data_folder() / f".{archive.name}.unpacking"
    shutil.rmtree(workplace, ignore_errors=True)  # a killed process may have left it
    try:
        _extract(path, workplace, GROWTH * archive.megabytes * 1_000_000)
        root, layout = _locate(archive, path, workplace)
        if not note:
            print(f"{path.name}: checksum unknown; taken because folders and counts are {archive.title}'s.")
        return root.replace(data_folder() / layout.folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _known(archive: Archive, path: Path) -> str:
    """The registry's note on an archive with this checksum, empty if it has none."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no archive {path}: give the path of a .tgz, .tar or .zip file")
    algorithms = sorted({checksum.partition(":")[0] for checksum in archive.known})
    checksums = (f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}" for algorithm in algorithms)
    return next((archive.known[checksum] for checksum in checksums if checksum in archive.known), "")


def _locate(archive: Archive, path: Path, workplace: Path) -> tuple[Path, Layout]:
    """Where in the extracted files the data set begins, and in which layout."""
    folders = [workplace, *(child for child in sorted(workplace.iterdir()) if child.is_dir())]
    tries = [(layout.problems(folder), folder, layout) for folder in folders for layout in archive.layouts]
    problems, folder, layout = min(tries, key=lambda attempt: len(attempt[0]) / len(attempt[2].holds))
    if problems:
        raise ValueError(
            f"{path} is not a complete {archive.title} ({_summary(problems)}): nothing was installed"
        )
    return folder, layout


def _extract(path: Path, folder: Path, room: int) -> None:
    """Write the files of the archive ``path`` below ``folder``, empty ones left out; others' places are refused.

    So is an archive that needs more than ``room`` bytes, whatever sizes it states. Stricter than tarfile's filter
    "data": only plain files come out, so no link can lead outside.
    """
    folder.mkdir(parents=True)
    left = room
    try:
        for name, content in _files(path):
            target = folder.joinpath(*_parts(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as output:
                written = _copy(content, output, left)
            if not written:
                target.unlink()  # so that a data set of empty files is seen to be incomplete
            left -= BLOCK + written
            if left < 0:
                raise ValueError(
                    f"{path} unpacks to more than {room / 1e6:,.0f} MB, far more than this data set takes: nothing was "
                    "installed"
                )
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): copy or download it again") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 call a damaged file so
            raise ValueError(f"{path} is damaged ({error}): copy or download it again") from None
        reason = f"{error.strerror} while unpacking {path.name}, so nothing was installed"
        raise OSError(error.errno, reason, str(folder.parent)) from None


def _copy(content: IO[bytes], output: IO[bytes], most: int) -> int:
    """Copy a file, but stop after the chunk that goes over ``most`` bytes; returns how many were copied."""
    copied = 0
    while copied <= most and (chunk := content.read(CHUNK)):
        copied += output.write(chunk)
    return copied


# RuntimeError: a zip archive that wants a password, or is packed in a way zipfile does not know; OverflowError: a
# tar header with a size of more bytes than a computer can count
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError),
    *(zlib.error, lzma.LZMAError, RuntimeError, OverflowError),
)


def _files(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every plain file in a tar or zip archive; links and devices raise ValueError."""
    is_tar = tarfile.is_tarfile(path)
    if not is_tar and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a tar nor a zip archive, or its beginning is damaged")
    with path.open("rb") as file:
        wrapped = tqdm.wrapattr(file, "read", total=_size(path), desc=f"Unpacking {path.name}")
        with wrapped as reader:
            stream = cast(IO[bytes], reader)
            yield from _tar_files(stream) if is_tar else _zip_files(stream)


class _Member(tarfile.TarInfo):
    """A member of a tar archive, refused if its size is negative: what is read next would be an earlier header.

    Later patch releases of Python do so themselves, such as 3.13.6; before, it goes round for ever (CVE-2025-8194).
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """Read a header of 512 bytes."""
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise _negative(member.name)
        return member


def _negative(name: str) -> tarfile.ReadError:
    return tarfile.ReadError(f"{name!r} has a negative size")


def _tar_files(stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a tar archive, compressed or not."""
    begin = -1
    with tarfile.open(fileobj=stream, tarinfo=_Member) as tar:
        for member in tar:
            # an extended header may give a size, too
            if member.size < 0 or member.offset <= begin:
                raise _negative(member.name)
            begin = member.offset
            if member.isreg() and (content := tar.extractfile(member)):
                yield member.name, content
            elif not member.isdir():
                raise _unsafe(member.name)


def _zip_files(stream: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """The plain files of a zip archive."""
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(member.filename)
            if not member.is_dir():
                with archive.open(member) as content:
                    yield member.filename, content


def _unsafe(name: str) -> ValueError:
    """The error for a member of an archive that could write outside the folder it is unpacked to."""
    return ValueError(
        f"the archive holds {name!r}, a link, a device or a path that leads outside: refused as unsafe, "
        "nothing was installed"
    )


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a member's name, if it stays inside the folder it is extracted to."""
    member = PureWindowsPath(name)  # knows both kinds of slash and drive letters, whatever this machine is
    if member.anchor or ".." in member.parts or not member.parts or "\0" in name:
        raise _unsafe(name)
    return member.parts


def _download(archive: Archive) -> Path:
    """Fetch the archive into downloads/, check its checksum and return its path.

    An interrupted download stays beside it as ``.part`` and is continued; a wrong checksum deletes it.
    """
    folder = data_folder() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{archive.filenames[0]}.part"

    def resume(url: str, output_file: str, _: object) -> None:
        """Download as pooch wants it: the file appears at ``output_file`` when it is whole."""
        _receive_all(url, part)
        part.replace(output_file)

    pooch.get_logger().setLevel("WARNING")  # we say ourselves, and shorter, what happens
    print(f"Downloading {archive.title} from {archive.url} ({archive.megabytes} MB).")
    try:
        return Path(
            pooch.retrieve(
                archive.url, archive.checksum, fname=archive.filenames[0], path=folder, downloader=resume
            )
        )
    except ConnectionError as error:
        raise ConnectionError(
            f"{archive.title} is not in {data_folder()}, and downloading it failed: {error}. With a network, "
            f"run `{archive.command}` ({archive.megabytes} MB; it goes on where it stopped). Without one, "
            f"bring {archive.url} from another machine and run `{archive.command} --from PATH.tgz` "
            "(a .tgz, .tar or .zip file)."
        ) from None
    except ValueError:
        raise ValueError(
            f"{archive.url} did not send {archive.title}: wrong checksum, so the file was deleted. Is there "
            f"a login page between you and the network? Run `{archive.command}` to begin anew."
        ) from None


def _receive_all(url: str, part: Path) -> None:
    """Download ``url`` into ``part``, asking for the rest as long as each try brings something."""
    _reach(url)
    while True:
        before = _size(part)
        try:
            _receive(url, part)
            return
        except (requests.RequestException, HTTPError) as error:
            if _size(part) <= before:
                raise ConnectionError(_reason(error)) from error
            time.sleep(PAUSE_SECONDS)


def _receive(url: str, part: Path) -> None:
    """Ask once for what is missing of ``url`` and append it to ``part``."""
    begin = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing comes after what we have: the checksum decides
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:  # this server sends all of it again
            begin = 0
        length = int(answer.headers.get("Content-Length", 0))
        with (
            part.open("ab" if begin else "wb") as file,
            tqdm(total=begin + length or None, initial=begin, unit="B", unit_scale=True) as bar,
        ):
            bar.set_description(part.stem)
            # read1 keeps every byte that arrives before a line goes dead; raw and not decoded, because some
            # servers call a .tar.gz gzip-encoded, and it would come unpacked
            while chunk := answer.raw.read1(CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))


def _size(path: Path) -> int:
    """The bytes in a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """A network error in a few words instead of requests' many."""
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if "timed out" in str(error):
        return f"the server sent nothing for {STALL_SECONDS:g} s"
    return f"the connection broke ({type(error).__name__})"


def _reach(url: str) -> None:
    """Raise ConnectionError soon if the server (or the proxy before it) cannot be reached.

    Neither looking up a name nor trying each of its addresses obeys one time limit, so a thread does it.
    """
    proxy = select_proxy(url, get_environ_proxies(url))
    address = urlsplit(prepend_scheme_if_needed(proxy, "http") if proxy else url)
    port = address.port or (443 if address.scheme == "https" else 80)
    outcome = f"no answer in {CONNECT_SECONDS:g} s"

    def connect() -> None:
        nonlocal outcome
        try:
            socket.create_connection((address.hostname, port), timeout=CONNECT_SECONDS).close()
            outcome = ""
        except Exception as error:  # whatever it is, it must reach the student as one sentence
            outcome = str(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if outcome:
        raise ConnectionError(f"{address.hostname} cannot be reached ({outcome})")
