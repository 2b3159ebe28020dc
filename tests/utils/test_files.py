"""Downloads from a server on this machine, and archives that mean harm."""

import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import kerax
from kerax.utils import files

CONTENT = b"some bytes " * 1000


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server():
    """A URL, the bodies it serves by path, and the paths asked for."""
    bodies, asked = {"/data.bin": CONTENT}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = bodies.get(self.path.split("?")[0])
            self.send_response(200 if body is not None else 404)
            # `/short` breaks off half way.
            self.send_header("Content-Length", str(len(body or b"") * (2 if self.path == "/short" else 1)))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies, asked
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_to_the_cache(server, home):
    url, _, asked = server
    path = kerax.utils.get_file(origin=f"{url}/data.bin?version=1")
    assert path == str(home / "datasets" / "data.bin")
    assert Path(path).read_bytes() == CONTENT
    assert kerax.utils.get_file(origin=f"{url}/data.bin") == path
    assert len(asked) == 1
    kerax.utils.get_file(origin=f"{url}/data.bin", force_download=True)
    assert len(asked) == 2
    assert os.listdir(home / "datasets") == ["data.bin"]  # nothing partial


def test_name_and_folder_can_be_chosen(server, tmp_path):
    path = kerax.utils.get_file("mine.bin", f"{server[0]}/data.bin", cache_subdir="models", cache_dir=tmp_path / "x")
    assert path == str(tmp_path / "x" / "models" / "mine.bin")
    path = kerax.utils.get_file(origin=f"{server[0]}/data.bin", cache_subdir=str(tmp_path / "elsewhere"))
    assert path == str(tmp_path / "elsewhere" / "data.bin")


def test_files_of_this_machine_have_urls_too(tmp_path):
    (tmp_path / "a b.txt").write_text("here")
    path = kerax.utils.get_file(origin=(tmp_path / "a b.txt").as_uri())
    assert os.path.basename(path) == "a b.txt" and Path(path).read_text() == "here"
    with pytest.raises(ConnectionError, match="cannot fetch file://.*missing"):
        kerax.utils.get_file(origin=(tmp_path / "missing").as_uri())


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_checksums_are_compared(server, home, algorithm, capsys):
    url, bodies, asked = server
    right = hashlib.new(algorithm, CONTENT).hexdigest()
    wrong = "0" * len(right)
    with pytest.raises(ValueError, match=f"{algorithm} checksum {right}, expected {wrong}"):
        kerax.utils.get_file(origin=f"{url}/data.bin", file_hash=wrong)
    assert os.listdir(home / "datasets") == []
    for hash_algorithm in ("auto", algorithm):
        path = kerax.utils.get_file(origin=f"{url}/data.bin", file_hash=right.upper(), hash_algorithm=hash_algorithm)
    assert len(asked) == 2
    Path(path).write_bytes(b"changed")
    kerax.utils.get_file(origin=f"{url}/data.bin", file_hash=right)
    assert Path(path).read_bytes() == CONTENT
    assert "downloading it again" in capsys.readouterr().err
    assert files.hash_file(path, algorithm) == right
    bodies["/data.bin"] = b"other"
    with pytest.raises(ValueError, match="It was not kept"):
        kerax.utils.get_file(origin=f"{url}/data.bin", file_hash=right, force_download=True)
    assert Path(path).read_bytes() == CONTENT  # the good one is still there


def test_the_older_argument_for_md5(server):
    with pytest.raises(ValueError, match="md5 checksum"):
        kerax.utils.get_file(origin=f"{server[0]}/data.bin", md5_hash="0" * 32)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({}, "http, https or file URL. Got None"),
        ({"origin": "ftp://somewhere/x"}, "Got 'ftp://somewhere/x'"),
        ({"origin": "http://127.0.0.1:9/"}, "`fname` must be a file name"),
        ({"origin": "http://127.0.0.1:9/x", "fname": "../x"}, "without folders. Got '../x'"),
        ({"origin": "http://127.0.0.1:9/%2e%2e"}, "without folders. Got '..'"),
        ({"origin": "http://127.0.0.1:9/a%5Cb"}, "without folders"),
        ({"origin": "http://127.0.0.1:9/x", "file_hash": "12"}, "32 digits for MD5, 64 for SHA-256. Got '12'"),
        ({"origin": "http://127.0.0.1:9/x", "hash_algorithm": "crc"}, "'auto', 'md5' or 'sha256'. Got 'crc'"),
        ({"origin": "http://127.0.0.1:9/x", "file_hash": "0" * 32, "hash_algorithm": "sha256"}, "64 for SHA-256"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        kerax.utils.get_file(**kwargs)


def test_what_cannot_be_fetched_says_where_to_put_the_file(server, home):
    for url, reason in ((f"{server[0]}/absent", "404"), ("http://127.0.0.1:9/absent", "refused")):
        with pytest.raises(ConnectionError, match=f"(?s)cannot fetch {url} .*{reason}.*{home}/datasets/absent"):
            kerax.utils.get_file(origin=url)
    assert os.listdir(home / "datasets") == []


def test_a_download_that_breaks_off_is_not_kept(server, home):
    server[1]["/short"] = CONTENT
    with pytest.raises(ValueError, match="ended after 11,000 of 22,000 bytes"):
        kerax.utils.get_file(origin=f"{server[0]}/short")
    assert os.listdir(home / "datasets") == []


def test_a_folder_that_cannot_be_made_is_named(server, home):
    home.write_text("a file in the way")
    with pytest.raises(ValueError, match="cannot make the folder .*home.*Set KERAX_HOME"):
        kerax.utils.get_file(origin=f"{server[0]}/data.bin")


# Archives.


def member(name, kind=tarfile.REGTYPE, target="", data=b"text"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def make_tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def make_zip(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return path


GOOD = (
    member("top/a.txt"),
    member("top/sub", tarfile.DIRTYPE),
    member("top/sub/b.txt"),
    member("top/sub/link", tarfile.SYMTYPE, "../a.txt"),
    member("top/same", tarfile.LNKTYPE, "top/a.txt"),
)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_files_are_unpacked(tmp_path, mode):
    make_tar(tmp_path / "x.tar", *GOOD, mode=mode)
    files.extract_archive(tmp_path / "x.tar", tmp_path / "out")
    for name in ("a.txt", "sub/b.txt", "sub/link", "same"):
        assert (tmp_path / "out" / "top" / name).read_text() == "text"
    assert sorted(os.listdir(tmp_path)) == ["out", "x.tar"]


def test_zip_files_are_unpacked(tmp_path):
    make_zip(tmp_path / "x.zip", ["a.txt", "sub/b.txt"])
    files.extract_archive(tmp_path / "x.zip", tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "b.txt").read_text() == "text"


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("/tmp/evil")],
        [member("a/../../evil")],
        [member("..\\evil")],
        [member("C:\\evil")],
        [member("link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "../..")],
        [member("a/link", tarfile.SYMTYPE, "../../x")],
        [member("link", tarfile.SYMTYPE, "."), member("link/up", tarfile.SYMTYPE, "..")],
        [member("a/back", tarfile.SYMTYPE, ".."), member("link", tarfile.SYMTYPE, "a/back/../x")],
        [member("a/back", tarfile.SYMTYPE, ".."), member("link", tarfile.SYMTYPE, "a/back/x")],
        [member("dir", tarfile.SYMTYPE, "elsewhere"), member("dir/evil")],
        [member("DIR", tarfile.SYMTYPE, "elsewhere"), member("dir/evil")],
        [member("hard", tarfile.LNKTYPE, "../../etc/passwd")],
        [member("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [member("link", tarfile.SYMTYPE, "a"), member("hard", tarfile.LNKTYPE, "link")],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("disk", tarfile.BLKTYPE)],
    ],
    ids=lambda members: " ".join(f"{info.name}>{info.linkname}" for info, _ in members),
)
def test_tar_files_that_leave_their_folder_are_refused_as_a_whole(tmp_path, members):
    path = make_tar(tmp_path / "inner.tar", member("fine.txt"), *members)
    with pytest.raises(ValueError, match=r"inner.tar' holds .*Nothing was unpacked"):
        files.extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["inner.tar"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "c:/evil"])
def test_zip_files_that_leave_their_folder_are_refused_as_a_whole(tmp_path, name):
    path = make_zip(tmp_path / "x.zip", ["fine.txt", name])
    with pytest.raises(ValueError, match=r"x.zip' holds .*Nothing was unpacked"):
        files.extract_archive(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.zip"]


def test_links_in_zip_files_become_files(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    files.extract_archive(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


def test_damaged_archives_and_other_files_are_named(tmp_path):
    (tmp_path / "no.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="no.tar' is not an archive of the kind tar or zip"):
        files.extract_archive(tmp_path / "no.tar", tmp_path / "out")
    path = make_zip(tmp_path / "x.zip", ["a.txt"])
    with pytest.raises(ValueError, match="x.zip' is not an archive of the kind tar"):
        files.extract_archive(path, tmp_path / "out", "tar")
    with pytest.raises(ValueError, match="'auto', 'tar' or 'zip'. Got 'rar'"):
        files.extract_archive(path, tmp_path / "out", "rar")
    path.write_bytes(path.read_bytes().replace(b"text", b"next"))
    with pytest.raises(ValueError, match="x.zip' cannot be unpacked"):
        files.extract_archive(path, tmp_path / "out")
    make_tar(tmp_path / "cut.tar", member("a.txt", data=b"x" * 10_000))
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut.tar' cannot be unpacked"):
        files.extract_archive(tmp_path / "cut.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_whatever_the_damage_the_archive_is_named(tmp_path, mode):
    text = np.random.default_rng(1).integers(0, 256, 3000, "uint8").tobytes()
    path = tmp_path / "x.archive"
    if mode == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", text)
    else:
        make_tar(path, member("a.txt", data=text), *GOOD, mode=mode)
    content, rng, messages = np.fromfile(path, np.uint8), np.random.default_rng(0), []
    for _ in range(40):
        damaged = content.copy()
        damaged[rng.integers(0, len(content), size=10)] = rng.integers(0, 256, size=10)
        damaged.tofile(path)
        try:
            files.extract_archive(path, tmp_path / "out")
        except ValueError as error:
            messages.append(str(error))
    assert [message for message in messages if "x.archive'" not in message] == []
    assert messages or mode == "w"  # plain tar has no checksums but of its headers
    assert set(os.listdir(tmp_path)) <= {"x.archive", "out"}


def test_what_does_not_fit_the_disk_is_not_begun(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "x.tar", member("a.txt"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: files.shutil._ntuple_diskusage(9, 9, 3))
    with pytest.raises(ValueError, match="holds 4 bytes, and 3 are free"):
        files.extract_archive(path, tmp_path / "out")


def test_archives_are_downloaded_and_unpacked_once(server, home, tmp_path):
    url, bodies, asked = server
    bodies["/data.tar.gz"] = make_tar(tmp_path / "x", *GOOD, mode="w:gz").read_bytes()
    for fname, expected in ((None, "data.tar.gz"), ("mine", "mine"), ("mine.tgz", "mine_extracted")):
        for _ in range(2):
            folder = kerax.utils.get_file(fname, f"{url}/data.tar.gz", extract=True)
            assert folder == str(home / "datasets" / expected)
            assert (Path(folder) / "top" / "a.txt").read_text() == "text"
    assert len(asked) == 3
    (Path(folder) / "top" / "a.txt").write_text("mine")
    folder = kerax.utils.get_file("mine.tgz", f"{url}/data.tar.gz", untar=True, force_download=True)
    assert (Path(folder) / "top" / "a.txt").read_text() == "text"
