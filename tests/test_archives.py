"""The registry, downloads and installs, against a server on this machine and archives made to measure."""

import errno
import gzip
import hashlib
import io
import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lessons_lib.data import __main__ as command_line
from lessons_lib.data import archives
from lessons_lib.data.archives import REGISTRY, Archive, Layout, install, require, status

FILES = {
    f"toy/{label}/{i}.jpg": f"{label} {i} ".encode() * 4_000 for label in ("ant", "bee") for i in range(3)
}


def tar_bytes(files=FILES, mode="w:gz", extra=(), **options):
    """A tar archive in memory; ``extra`` are TarInfo without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **options) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def zip_bytes(files=FILES, modes=None):
    """A zip archive in memory; ``modes`` gives members other Unix modes than a plain file's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder and no network but this machine."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LESSONS_ARCHIVES", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "data"


@pytest.fixture
def offline(monkeypatch):
    """Any try to reach the network fails the test."""
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("touched the network"))


@pytest.fixture
def toy(data, monkeypatch):
    """A registry with one small data set, and a function that says where and what it is downloaded from."""

    def register(url="http://127.0.0.1:9/toy.tgz", content=b""):
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        archive = Archive(
            name="toy",
            title="Toy set",
            content="six files",
            url=url,
            checksum=checksum,
            megabytes=1,
            known={checksum: "the original", "md5:0": "another"},
            filenames=("toy.tgz",),
            layouts=(
                Layout("toy-batches", {"batch": (1, 1)}),
                Layout("toy", {"ant/*.jpg": (3, 3), "bee/*.jpg": (2, 4)}),
            ),
            licence="none",
            citation="none",
        )
        monkeypatch.setattr(archives, "REGISTRY", {"toy": archive})
        return archive

    register()
    return register


def left_over(data):
    """What lies in the data folder besides lock files."""
    return sorted(path.name for path in data.iterdir() if not path.name.endswith(".lock"))


def contents(folder):
    return {p.relative_to(folder.parent).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- local archives ---


@pytest.mark.usefixtures("toy", "offline")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("toy.tgz", tar_bytes),
        ("toy.tar", partial(tar_bytes, mode="w:")),
        ("toy.tar.bz2", partial(tar_bytes, mode="w:bz2")),
        ("toy.tar.xz", partial(tar_bytes, mode="w:xz")),
        ("toy.zip", zip_bytes),
    ],
)
def test_install_from_a_local_archive_of_any_kind(data, tmp_path, capsys, name, make):
    source = tmp_path / name
    source.write_bytes(make())
    folder = install("toy", source)
    assert folder == data / "toy"
    assert contents(folder) == FILES
    assert left_over(data) == ["toy"]
    assert source.exists()
    assert "checksum unknown" in capsys.readouterr().out


def test_known_checksum_is_said(data, toy, tmp_path, capsys):
    content = tar_bytes()
    toy(content=content)
    (tmp_path / "a.tgz").write_bytes(content)
    install("toy", tmp_path / "a.tgz")
    assert "checksum known, the original" in capsys.readouterr().out


def test_second_install_is_left_alone_and_says_so(data, toy, tmp_path, capsys):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    folder = install("toy", tmp_path / "a.tgz")
    before = folder.stat().st_mtime_ns
    assert install("toy", tmp_path / "a.tgz") == folder
    assert "already installed" in capsys.readouterr().out
    assert folder.stat().st_mtime_ns == before
    assert require("toy") == folder


@pytest.mark.parametrize("prefix", ["", "other-name/"])
def test_the_archive_may_name_its_top_folder_otherwise(data, toy, tmp_path, prefix):
    files = {name.replace("toy/", prefix, 1): content for name, content in FILES.items()}
    files |= {"__MACOSX/x": b"", f"{prefix}ant/._0.jpg": b"junk of a Mac"}
    (tmp_path / "a.zip").write_bytes(zip_bytes(files))
    folder = install("toy", tmp_path / "a.zip")
    assert folder == data / "toy"
    assert len(list(folder.glob("bee/*.jpg"))) == 3


def test_the_other_layout_goes_to_its_own_folder(data, toy, tmp_path):
    (tmp_path / "a.tgz").write_bytes(tar_bytes({"whatever/batch": b"x"}))
    assert install("toy", tmp_path / "a.tgz") == data / "toy-batches"


def test_folders_and_back_slashes_in_archives(data, toy, tmp_path):
    folders = [tarfile.TarInfo(name) for name in ("toy", "toy/ant")]
    for info in folders:
        info.type = tarfile.DIRTYPE
    (tmp_path / "a.tgz").write_bytes(tar_bytes(extra=folders))
    install("toy", tmp_path / "a.tgz")
    shutil.rmtree(data)
    modes = {"toy/": stat.S_IFDIR | 0o755, "toy/ant/0.jpg": stat.S_IFREG | 0o644}
    (tmp_path / "a.zip").write_bytes(zip_bytes({"toy/": b"", **FILES}, modes))
    assert contents(install("toy", tmp_path / "a.zip")) == FILES


def link(name, target, kind):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


UNSAFE = {
    "absolute": tar_bytes({"/evil": b"x"}),
    "parent": tar_bytes({"toy/../../evil": b"x"}),
    "back-slashes": tar_bytes({"toy\\..\\..\\evil": b"x"}),
    "drive": tar_bytes({"C:evil": b"x"}),
    "null byte": tar_bytes({"toy/ä\0evil": b"x"}, format=tarfile.PAX_FORMAT),
    "symlink": tar_bytes(extra=[link("toy/evil", "/etc/passwd", tarfile.SYMTYPE)]),
    "hard link": tar_bytes(extra=[link("toy/evil", "../../evil", tarfile.LNKTYPE)]),
    "device": tar_bytes(extra=[link("toy/evil", "", tarfile.CHRTYPE)]),
    "pipe": tar_bytes(extra=[link("toy/evil", "", tarfile.FIFOTYPE)]),
    "zip absolute": zip_bytes({"/evil": b"x"}),
    "zip parent": zip_bytes({"toy/../../evil": b"x"}),
    "zip symlink": zip_bytes({"evil": b"/etc/passwd"}, {"evil": stat.S_IFLNK | 0o777}),
    "zip device": zip_bytes({"evil": b""}, {"evil": stat.S_IFCHR}),
}


@pytest.mark.parametrize("content", UNSAFE.values(), ids=UNSAFE.keys())
def test_archives_that_reach_outside_are_refused(data, toy, tmp_path, content):
    (tmp_path / "evil.tgz").write_bytes(content)
    with pytest.raises(ValueError, match=r"evil'?.*refused as unsafe, nothing was installed"):
        install("toy", tmp_path / "evil.tgz")
    assert left_over(data) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "evil.tgz"]


@settings(deadline=None)
@given(st.text(st.sampled_from(["a", "b", ".", "/", "\\", ":", " "]), max_size=12))
def test_no_name_leaves_the_folder(name):
    folder = Path("base", "folder").resolve()
    try:
        target = folder.joinpath(*archives._parts(name))
    except ValueError:
        return
    assert folder in Path(os.path.normpath(target)).parents


def damaged(content):
    """Copies of an archive cut short or changed in the middle."""
    middle = len(content) // 2
    return {
        "half": content[:middle],
        "all but 100 bytes": content[:-100],
        "first 30 bytes": content[:30],
        "nothing": b"",
        "flipped": content[:middle]
        + bytes(255 - b for b in content[middle : middle + 40])
        + content[middle + 40 :],
    }


# the noise keeps the archives from shrinking to a few bytes
NOISY = {name: os.urandom(3_000) for name in FILES}
DAMAGED = {
    f"{kind} {what}": content
    for kind, make in {
        "tgz": tar_bytes,
        "tar": partial(tar_bytes, mode="w:"),
        "bz2": partial(tar_bytes, mode="w:bz2"),
        "xz": partial(tar_bytes, mode="w:xz"),
        "zip": zip_bytes,
    }.items()
    for what, content in damaged(make(NOISY)).items()
    # a plain tar archive has no checksums of its contents, and ends with kilobytes of zeros
    if (kind, what) not in {("tar", "flipped"), ("tar", "all but 100 bytes")}
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_archives_install_nothing(data, toy, tmp_path, content):
    (tmp_path / "bad.tgz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.tgz.*(damaged|not a complete)"):
        install("toy", tmp_path / "bad.tgz")
    assert left_over(data) == []


def test_a_zip_with_a_password_is_refused(data, toy, tmp_path):
    content = bytearray(zip_bytes())
    for match in re.finditer(rb"PK\x01\x02", bytes(content)):
        content[match.start() + 8] |= 1  # the flag "encrypted" of the central directory
    for match in re.finditer(rb"PK\x03\x04", bytes(content)):
        content[match.start() + 6] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(ValueError, match="password"):
        install("toy", tmp_path / "a.zip")


def test_an_archive_of_something_else_is_refused(data, toy, tmp_path):
    files = {name: content for name, content in FILES.items() if name != "toy/ant/1.jpg"}
    (tmp_path / "a.tgz").write_bytes(tar_bytes(files))
    with pytest.raises(ValueError, match=r"not a complete Toy set \(ant/\*\.jpg: 2 files instead of 3\)"):
        install("toy", tmp_path / "a.tgz")
    (tmp_path / "a.tgz").write_bytes(tar_bytes({"readme": b""}))
    with pytest.raises(ValueError, match="nothing was installed"):
        install("toy", tmp_path / "a.tgz")
    assert left_over(data) == []


@pytest.mark.parametrize("make", [tar_bytes, zip_bytes])
def test_a_data_set_of_empty_files_is_refused(data, toy, tmp_path, make):
    (tmp_path / "a.tgz").write_bytes(make(dict.fromkeys(FILES, b"")))
    with pytest.raises(ValueError, match="not a complete Toy set"):
        install("toy", tmp_path / "a.tgz")
    assert left_over(data) == []


def test_folders_named_like_pictures_are_none(data, toy, tmp_path):
    files = {f"{name}/real.jpg": content for name, content in FILES.items()}
    (tmp_path / "a.tgz").write_bytes(tar_bytes(files))
    with pytest.raises(ValueError, match="not a complete Toy set"):
        install("toy", tmp_path / "a.tgz")
    for name in FILES:
        (data / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is incomplete \(ant/\*\.jpg: 0 files instead of 3, and 1 more"):
        require("toy")


def negative_size(size, kind=tarfile.REGTYPE):
    """A tar header that declares a size below 0, which Python's tarfile writes nowhere but reads."""
    header = tarfile.TarInfo("toy/negative")
    header.type = kind
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 4 + struct.pack(">q", size)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def negative_pax(size):
    """A member whose extended header says what its own header cannot."""
    info = tarfile.TarInfo("toy/negative")
    info.pax_headers = {"size": str(size)}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.timeout(60)  # what must not happen is that it never ends
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize(
    "header",
    [
        *[negative_size(-512), negative_size(-1024), negative_size(-1)],
        *[negative_size(-512, tarfile.GNUTYPE_SPARSE), negative_size(-512, tarfile.DIRTYPE)],
        *[negative_size(-512, tarfile.XHDTYPE), negative_size(-512, tarfile.GNUTYPE_LONGNAME)],
        *[negative_pax(-512), negative_pax(-1536)],
    ],
)
def test_a_tar_with_a_negative_size_ends(data, toy, tmp_path, header, packed):
    good = tar_bytes(mode="w:")
    first = 512 + -(-len(FILES["toy/ant/0.jpg"]) // 512) * 512
    (tmp_path / "a.tar").write_bytes(packed(good[:first] + header + good[first:]))
    with pytest.raises(ValueError, match=r"a\.tar is damaged"):
        install("toy", tmp_path / "a.tar")
    assert left_over(data) == []
    with archives.FileLock(data / ".toy.lock", timeout=0):
        pass  # nobody holds it


@pytest.mark.timeout(120)
def test_a_tar_with_any_header_changed_installs_or_is_refused_in_a_sentence(tmp_path):
    good = tar_bytes({f"toy/{'ä' * 60 * i}{i}": NOISY["toy/ant/0.jpg"][:700] for i in range(4)}, "w:")
    choose = random.Random(0)
    path, folder = tmp_path / "a.tar", tmp_path / "out"
    for _ in range(400):
        header = 512 * choose.randrange(len(good) // 512)
        place = header + choose.choice((0, 124, 156, 257, 345, choose.randrange(500)))
        changed = bytearray(good)
        for byte in range(place, place + choose.choice((1, 12))):
            changed[byte] = choose.choice((0, 255, 128, *b"0xSL", choose.randrange(256)))
        changed[header + 148 : header + 156] = b" " * 8
        changed[header + 148 : header + 156] = b"%06o\0 " % sum(changed[header : header + 512])
        path.write_bytes(changed[: len(good)])
        try:
            archives._extract(path, folder, 10**7)
        except (ValueError, OSError) as error:
            words = r"is damaged|refused as unsafe|neither a tar nor|while unpacking a\.tar|more than 10 MB"
            assert re.search(words, str(error)), error
        shutil.rmtree(folder, ignore_errors=True)


def bomb(count, size):
    """FILES and ``count`` files of ``size`` zeros: little when packed."""
    return FILES | {f"toy/more/{i}": bytes(size) for i in range(count)}


@pytest.mark.parametrize("make", [tar_bytes, partial(tar_bytes, mode="w:xz"), zip_bytes])
@pytest.mark.parametrize(("count", "size"), [(1, 4_000_000), (40, 100_000), (1_000, 0)])
def test_an_archive_far_larger_than_the_data_set_is_refused(data, toy, tmp_path, make, count, size):
    (tmp_path / "a.tgz").write_bytes(make(bomb(count, size)))
    with pytest.raises(ValueError, match=r"unpacks to more than 4 MB.*nothing was installed"):
        install("toy", tmp_path / "a.tgz")
    assert left_over(data) == []


def test_of_a_huge_file_hardly_more_than_the_room_is_written(tmp_path):
    with (tmp_path / "out").open("wb") as output:
        copied = archives._copy(io.BytesIO(bytes(10 * archives.CHUNK)), output, 3 * archives.CHUNK)
    assert 3 * archives.CHUNK < copied == (tmp_path / "out").stat().st_size <= 4 * archives.CHUNK


def test_an_installed_data_set_where_no_lock_can_be_made(data, toy, tmp_path, capsys):
    """As on a read-only disk; a folder in the place of the lock stops the superuser, too."""
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    folder = install("toy", tmp_path / "a.tgz")
    (data / ".toy.lock").unlink(missing_ok=True)
    (data / ".toy.lock").mkdir()
    assert install("toy") == folder
    assert command_line.main(["install", "toy"]) == 0
    assert "already installed" in capsys.readouterr().out


def test_problems_counts_what_is_missing(tmp_path):
    layout = Layout("x", {"a/*.jpg": (1_000, 2_000), "b/*.jpg": (1, 1)})
    assert layout.problems(tmp_path) == [
        "a/*.jpg: 0 files instead of 1,000 to 2,000",
        "b/*.jpg: 0 files instead of 1",
    ]
    assert archives._summary(layout.problems(tmp_path)).endswith("and 1 more")


def test_a_source_that_is_not_there(data, toy, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        install("toy", tmp_path / "missing.tgz")
    with pytest.raises(FileNotFoundError, match=r"give the path of a \.tgz"):
        install("toy", tmp_path)


def fail_at(call, error):
    """A copy that raises at its n-th call, after writing half a file."""
    calls = 0

    def copy(source, output, most):
        nonlocal calls
        calls += 1
        if calls == call:
            output.write(b"half")
            raise error
        return output.write(source.read())

    return copy


def test_a_full_disk_leaves_nothing_behind(data, toy, tmp_path, monkeypatch):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(archives, "_copy", fail_at(4, full))
    with pytest.raises(OSError, match=r"No space left.*nothing was installed") as caught:
        install("toy", tmp_path / "a.tgz")
    assert caught.value.errno == errno.ENOSPC
    assert left_over(data) == []


def test_a_decoder_that_finds_damage_late_is_understood(data, toy, tmp_path, monkeypatch):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    # what gzip and bz2 raise at a wrong checksum: an OSError without a number
    monkeypatch.setattr(archives, "_copy", fail_at(3, OSError("CRC check failed")))
    with pytest.raises(ValueError, match=r"a\.tgz is damaged \(CRC check failed\)"):
        install("toy", tmp_path / "a.tgz")
    assert left_over(data) == []


def test_ctrl_c_leaves_nothing_behind(data, toy, tmp_path, monkeypatch):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archives, "_copy", fail_at(2, KeyboardInterrupt()))
        install("toy", tmp_path / "a.tgz")
    assert left_over(data) == []
    install("toy", tmp_path / "a.tgz")


def test_what_a_killed_process_left_is_cleared(data, toy, tmp_path):
    (data / ".toy.unpacking" / "toy" / "ant").mkdir(parents=True)
    (data / ".toy.unpacking" / "toy" / "ant" / "9.jpg").write_bytes(b"left")
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    assert contents(install("toy", tmp_path / "a.tgz")) == FILES
    assert left_over(data) == ["toy"]


def test_an_incomplete_folder_is_named_and_never_overwritten(data, toy, tmp_path):
    (data / "toy" / "ant").mkdir(parents=True)
    (data / "toy" / "ant" / "mine.jpg").write_bytes(b"mine")
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    for attempt in (partial(require, "toy"), partial(install, "toy", tmp_path / "a.tgz")):
        with pytest.raises(ValueError, match=r"ant/\*\.jpg: 1 files instead of 3.*move it away.*install toy"):
            attempt()
    assert (data / "toy" / "ant" / "mine.jpg").read_bytes() == b"mine"
    assert "is incomplete" in str(status()[0])


def test_a_second_process_waits(data, toy, tmp_path, capsys):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    archive = archives.REGISTRY["toy"]
    with archives._alone(archive):
        other = threading.Thread(target=install, args=("toy", tmp_path / "a.tgz"))
        other.start()
        said = ""
        while "waiting for it" not in said:  # a machine may be busy: the limit is pytest's
            other.join(0.05)
            assert other.is_alive()
            said += capsys.readouterr().out
        assert left_over(data) == []
    other.join()
    assert left_over(data) == ["toy"]


@pytest.mark.usefixtures("toy", "offline")
def test_archives_folder_is_tried_before_the_network(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LESSONS_ARCHIVES", str(tmp_path))
    (tmp_path / "toy.tgz").write_bytes(tar_bytes())
    assert require("toy") == data / "toy"
    assert f"from {tmp_path / 'toy.tgz'} (LESSONS_ARCHIVES)" in capsys.readouterr().out


def test_an_archives_folder_without_it_changes_nothing(data, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("LESSONS_ARCHIVES", str(tmp_path))
    with pytest.raises(ConnectionError, match="cannot be reached"):
        require("toy")


def test_unknown_names_are_answered_with_the_valid_ones(data):
    for function in (install, require):
        with pytest.raises(ValueError, match="cifar10, oxford-iiit-pet, hymenoptera"):
            function("cifar100")


def test_status_says_what_where_and_how(data, toy, tmp_path):
    (missing,) = status()
    assert missing.folder is None
    assert "python -m lessons_lib.data install toy (1 MB)" in str(missing)
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    install("toy", tmp_path / "a.tgz")
    (present,) = status()
    assert present.folder == data / "toy"
    assert present.size == sum(map(len, FILES.values()))
    assert f"installed in {data / 'toy'}" in str(present)


@pytest.mark.parametrize("archive", REGISTRY.values(), ids=REGISTRY.keys())
def test_every_entry_of_the_registry_is_whole(archive):
    assert archive.checksum in archive.known
    assert archive.url.endswith(archive.filenames[0])
    for checksum in archive.known:
        algorithm, _, digest = checksum.partition(":")
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size
        assert int(digest, 16)
    assert archive.licence
    assert archive.citation
    assert all(layout.holds for layout in archive.layouts)


def test_the_registry_agrees_with_torchvision():
    from torchvision import datasets

    assert REGISTRY["cifar10"].url == datasets.CIFAR10.url
    assert REGISTRY["cifar10"].checksum == f"md5:{datasets.CIFAR10.tgz_md5}"
    url, md5 = datasets.OxfordIIITPet._RESOURCES[0]
    assert (REGISTRY["oxford-iiit-pet"].url, REGISTRY["oxford-iiit-pet"].checksum) == (url, f"md5:{md5}")
    batches = {name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list}
    batches.add(datasets.CIFAR10.meta["filename"])
    assert set(REGISTRY["cifar10"].layouts[0].holds) == batches


# --- downloads ---


class Server:
    """A server on this machine whose manners can be changed; ``requests`` keeps every Range asked for."""

    def __init__(self):
        self.content = tar_bytes(NOISY)
        self.ranges = True
        self.length = True
        self.status = 0
        self.cuts = []  # how many bytes to send before the line goes dead, one for each request
        self.stalls = False
        self.headers = {}
        self.requests = []
        self.stop = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/toy.tgz"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, request):
        asked = request.headers.get("Range")
        self.requests.append(asked)
        if self.status:
            return request.send_error(self.status)
        begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if begin >= len(self.content):
            return request.send_error(416)
        request.send_response(206 if begin else 200)
        body = self.content[begin:]
        for name, value in self.headers.items():
            request.send_header(name, value)
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(body)
        request.wfile.write(body[:cut])
        request.wfile.flush()
        if cut < len(body) and self.stalls:
            self.stop.wait(30)
        request.close_connection = True

    def close(self):
        self.stop.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(toy, monkeypatch):
    server = Server()
    toy(url=server.url, content=server.content)
    monkeypatch.setattr(archives, "PAUSE_SECONDS", 0)
    yield server
    server.close()


def test_download_checks_installs_and_tidies_up(data, server, capsys):
    folder = require("toy")
    assert contents(folder) == NOISY
    assert list((data / "downloads").iterdir()) == []
    said = capsys.readouterr().out
    assert server.url in said
    assert "checksum known, the original" in said


def test_a_part_is_continued(data, server):
    part = data / "downloads" / "toy.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content[:5_000])
    assert contents(require("toy")) == NOISY
    assert server.requests == ["bytes=5000-"]


def test_a_whole_part_is_only_checked(data, server):
    part = data / "downloads" / "toy.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.content)
    assert contents(require("toy")) == NOISY
    assert server.requests == [f"bytes={len(server.content)}-"]


def test_a_server_that_ignores_ranges_sends_it_all_again(data, server):
    server.ranges = False
    part = data / "downloads" / "toy.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5_000)
    assert contents(require("toy")) == NOISY


def test_broken_connections_are_taken_up_again(data, server):
    server.cuts = [4_000, 3_000, 2_000]
    assert contents(require("toy")) == NOISY
    assert server.requests == [None, "bytes=4000-", "bytes=7000-", "bytes=9000-"]


def test_no_content_length_and_a_wrong_content_encoding(data, server):
    server.length = False
    server.headers = {"Content-Encoding": "gzip"}  # as some servers say of a .tar.gz
    assert contents(require("toy")) == NOISY


def test_a_stalled_connection_gives_up_and_keeps_what_arrived(data, server, monkeypatch):
    server.cuts, server.stalls = [4_000, 0], True
    with monkeypatch.context() as patch, pytest.raises(ConnectionError, match="sent nothing for 1 s"):
        patch.setattr(archives, "STALL_SECONDS", 1)
        require("toy")
    assert (data / "downloads" / "toy.tgz.part").read_bytes() == server.content[:4_000]
    assert contents(require("toy")) == NOISY
    assert server.requests == [None, "bytes=4000-", "bytes=4000-"]


def test_a_server_that_breaks_at_once_is_not_asked_for_ever(data, server):
    server.cuts = [0] * 5
    with pytest.raises(ConnectionError, match="the connection broke"):
        require("toy")
    assert len(server.requests) == 1


@pytest.mark.parametrize("part", [b"", b"x" * 5_000, b"x" * 1_000_000], ids=["fresh", "part", "too long"])
def test_a_wrong_checksum_is_refused_and_deleted(data, server, part):
    if part:
        (data / "downloads").mkdir(parents=True)
        (data / "downloads" / "toy.tgz.part").write_bytes(part)
    original = server.content
    server.content = original if part else original[:-1] + b"?"
    with pytest.raises(ValueError, match=r"wrong checksum, so the file was deleted.*login page"):
        require("toy")
    assert list((data / "downloads").iterdir()) == []
    assert left_over(data) == ["downloads"]
    server.content = original
    assert contents(require("toy")) == NOISY


def test_a_refusing_server_is_quoted(data, server):
    server.status = 503
    with pytest.raises(ConnectionError, match="the server answered 503 Service Unavailable"):
        require("toy")


def test_a_full_disk_keeps_the_download(data, server, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(archives, "_copy", fail_at(1, full))
        require("toy")
    assert left_over(data) == ["downloads"]
    assert contents(require("toy")) == NOISY
    assert len(server.requests) == 1


# a download in a process of its own, which need not wait for torch
KILLED = """
import sys, types
sys.modules["lessons_lib.course"] = types.SimpleNamespace(data_folder=None)
from lessons_lib.data import archives
archives._receive_all(sys.argv[1], archives.Path(sys.argv[2]))
"""


def test_a_killed_download_is_continued(data, server):
    server.cuts, server.stalls = [6_000], True
    part = data / "downloads" / "toy.tgz.part"
    part.parent.mkdir(parents=True)
    child = subprocess.Popen([sys.executable, "-c", KILLED, server.url, str(part)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):  # until it hangs in the middle
            if part.exists() and part.stat().st_size == 6_000:
                break
            server.stop.wait(0.1)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL if os.name == "posix" else child.wait() != 0
    assert part.read_bytes() == server.content[:6_000]
    assert contents(require("toy")) == NOISY
    assert server.requests[-1] == "bytes=6000-"


# --- no network ---


def test_a_refused_connection_says_what_helps(data, toy):
    with pytest.raises(ConnectionError) as caught:
        require("toy")
    text = str(caught.value)
    assert "Toy set is not in" in text
    assert "127.0.0.1 cannot be reached" in text
    assert "`python -m lessons_lib.data install toy`" in text
    assert "`python -m lessons_lib.data install toy --from PATH.tgz`" in text
    assert left_over(data) == ["downloads"]


@pytest.mark.parametrize("name", REGISTRY)
def test_without_a_network_every_data_set_says_what_helps(data, monkeypatch, name):
    def unreachable(*_, **__):
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    with pytest.raises(ConnectionError, match=rf"Network is unreachable.*install {name} --from PATH\.tgz"):
        require(name)


def test_a_network_that_swallows_everything_is_given_up_soon(data, toy, monkeypatch):
    assert archives.CONNECT_SECONDS < 5
    release = threading.Event()
    monkeypatch.setattr(archives, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: release.wait(30))
    with pytest.raises(ConnectionError, match=r"no answer in 0\.1 s"):
        require("toy")
    release.set()


def test_a_proxy_is_asked_instead_of_the_server(data, toy, monkeypatch):
    asked = []

    def record(address, **_):
        asked.append(address)
        raise OSError("recorded")

    monkeypatch.setattr(socket, "create_connection", record)
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "proxy.school:3128")
    for url in ("https://example.org/x", "http://example.org:8080/x"):
        monkeypatch.delenv("http_proxy", raising=False)
        with pytest.raises(ConnectionError):
            archives._reach(url)
    assert asked == [("proxy.school", 3128), ("example.org", 8080)]


def test_reasons_are_short():
    assert archives._reason(requests.exceptions.SSLError("long story")) == "the connection broke (SSLError)"


# --- the command line ---


def test_status_command(data, toy, capsys):
    assert command_line.main(["status"]) == 0
    assert "not installed: python -m lessons_lib.data install toy" in capsys.readouterr().out


def test_install_command(data, toy, tmp_path, capsys):
    (tmp_path / "a.tgz").write_bytes(tar_bytes())
    assert command_line.main(["install", "toy", "--from", str(tmp_path / "a.tgz")]) == 0
    assert "Toy set is installed in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["install", "nothing"], "there is no data set 'nothing'"),
        (["install", "toy"], "cannot be reached"),
        (["install", "toy", "--from", "missing.tgz"], "there is no archive missing.tgz"),
    ],
)
def test_errors_are_one_line_and_exit_status_1(data, toy, capsys, arguments, words):
    assert command_line.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_ctrl_c_on_the_command_line(data, toy, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "install", interrupted)
    assert command_line.main(["install", "toy"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


# --- photographs in a folder ---


def test_photographs_are_told_from_other_files(tmp_path):
    picture = Image.new("RGB", (4, 4))
    for name in ("b.jpg", "a.JPEG"):
        picture.save(tmp_path / name)
    picture.save(tmp_path / "gif.jpg", format="GIF")
    for name in ("page.jpg", "x.mat", "y.mat", "z.mat"):
        (tmp_path / name).write_text("<html>")
    picture.save(tmp_path / "notFound.gif")
    (tmp_path / "folder.jpg").mkdir()
    good, others = archives.photographs(tmp_path)
    assert [path.name for path in good] == ["a.JPEG", "b.jpg", "gif.jpg"]
    assert others == "notFound.gif, page.jpg, x.mat and 2 more"


@pytest.mark.archives
@pytest.mark.skipif(
    "LESSONS_ARCHIVES" not in os.environ, reason="LESSONS_ARCHIVES names no folder of archives"
)
@pytest.mark.parametrize("name", ["oxford-iiit-pet", "hymenoptera"])
@pytest.mark.usefixtures("offline")
def test_the_real_archives_are_known(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    require(name)
    assert "checksum known" in capsys.readouterr().out
    assert left_over(tmp_path) == [REGISTRY[name].layouts[0].folder]
