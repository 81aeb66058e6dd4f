"""The tree store: directories in, checkouts out; nothing half done believed, no shared inode changed."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded_engine import blobs as blobs_module
from embedded_engine.blobs import intact
from embedded_engine.entries import EPOCH, DirEntry, FileEntry, LinkEntry, TreeError, walk
from embedded_engine.filters import Filter
from embedded_engine.host_import import Origin
from embedded_engine.operations import TreeId
from embedded_engine.tree_edits import find_directory, find_file, put, remove
from embedded_engine.trees import Trees, remove_tree

pytestmark = pytest.mark.timeout(60)
LARGE = 5 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("one")
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "src" / "deep" / "copy.txt").write_text("one")
    (root / "link").symlink_to("src/run.sh")
    return root


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    with_state = Trees(tmp_path / "state")
    yield with_state
    with_state.close()


def settle(root: Path) -> None:
    """Make everything old enough for its times to be trusted."""
    time.sleep(0.15)
    assert root.exists()


def load(trees: Trees, root: Path, **wanted: object) -> DirEntry:
    return trees.read_directory(root, Origin("source"), Filter(**wanted))  # type: ignore[arg-type]


def paths(root: DirEntry) -> list[str]:
    return [path for path, _ in walk(root)]


# --- what is taken in


def test_bytes_modes_and_links_are_kept_and_ownership_is_roots(trees: Trees, source: Path) -> None:
    tree = load(trees, source)
    assert paths(tree) == ["a.txt", "link", "src", "src/deep", "src/deep/copy.txt", "src/run.sh"]
    script = find_file(tree, "src/run.sh")
    assert (script.mode, script.uid, script.gid, script.mtime) == (0o755, 0, 0, EPOCH)
    assert tree.children["link"] == LinkEntry("src/run.sh")
    assert trees.text(script) == "#!/bin/sh\n"


def test_times_are_not_in_the_digest_but_modes_and_bytes_are(trees: Trees, source: Path) -> None:
    first = load(trees, source).digest
    os.utime(source / "a.txt", (1, 1))
    assert load(trees, source).digest == first
    (source / "a.txt").chmod(0o600)
    second = load(trees, source).digest
    (source / "a.txt").chmod(0o644)
    (source / "a.txt").write_text("two")
    assert len({first, second, load(trees, source).digest}) == 3


def test_the_roots_own_mode_and_place_do_not_count(trees: Trees, source: Path, tmp_path: Path) -> None:
    first = load(trees, source).digest
    source.chmod(0o700)
    moved = source.rename(tmp_path / "elsewhere")
    assert load(trees, moved).digest == first


def test_odd_names_survive(trees: Trees, tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    names = [b"\xc3\xbc\xc3\x9f \xe6\xbc\xa2", b"line\nbreak", b"quote'\"\\", b"-rf", b"\xff\xfe", b"n" * 255]
    for name in names:
        (root / os.fsdecode(name)).write_bytes(name)
    tree = load(trees, root)
    assert {os.fsencode(name) for name in tree.children} == set(names)
    checkout = trees.path(TreeId(tree.digest))
    assert {os.fsencode(path.name): path.read_bytes() for path in checkout.iterdir()} == {n: n for n in names}


def test_links_that_circle_dangle_or_leave_are_kept_as_they_are(trees: Trees, tmp_path: Path) -> None:
    root = tmp_path / "links"
    root.mkdir()
    targets = {"circle": "circle", "up": "../..", "gone": "no/where", "out": "/etc/passwd", "self": "."}
    for name, target in targets.items():
        (root / name).symlink_to(target)
    tree = load(trees, root)
    assert {name: e.target for name, e in tree.children.items() if isinstance(e, LinkEntry)} == targets
    checkout = trees.path(TreeId(tree.digest))
    assert {path.name: os.fspath(path.readlink()) for path in checkout.iterdir()} == targets


def test_a_pipe_is_refused_by_its_path_and_a_socket_is_left_out(trees: Trees, source: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(source / "s"))
    assert "s" not in paths(load(trees, source))
    os.mkfifo(source / "src" / "pipe")
    with pytest.raises(TreeError, match=r"^source/src/pipe: a named pipe cannot be loaded; leave it out"):
        load(trees, source)
    assert "src/pipe" not in paths(load(trees, source, exclude=("**/pipe",)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
def test_a_device_is_refused(trees: Trees, source: Path) -> None:
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(TreeError, match="source/null: a device cannot be loaded"):
        load(trees, source)
    assert "null" not in paths(trees.read_directory(source, Origin("/", "container")))


def test_what_is_missing_or_no_directory_is_told_by_the_users_path(trees: Trees, source: Path) -> None:
    with pytest.raises(TreeError, match=r"^stat no/such: no such file or directory$"):
        trees.read_directory(source / "no", Origin("no/such"))
    with pytest.raises(TreeError, match=r"^a.txt: not a directory$"):
        trees.read_directory(source / "a.txt", Origin("a.txt"))
    with pytest.raises(TreeError, match=r"^src: is a directory, not a file$"):
        trees.read_file(source / "src", Origin("src"))


def test_a_link_to_a_directory_is_followed_at_the_top(trees: Trees, source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(source)
    assert load(trees, tmp_path / "alias").digest == load(trees, source).digest


def test_excluded_directories_are_not_walked(trees: Trees, source: Path) -> None:
    (source / "pipes").mkdir()
    os.mkfifo(source / "pipes" / "p")
    assert "pipes" not in paths(load(trees, source, exclude=("pipes",)))
    assert paths(load(trees, source, include=("src/*.sh",))) == ["src", "src/run.sh"]


def test_gitignore_counts_from_the_repository_above_and_keeps_dot_git(trees: Trees, source: Path) -> None:
    (source / ".git").mkdir()
    (source / ".git" / "x.log").write_text("kept")
    (source / ".gitignore").write_text("*.log\n/src/gen\n")
    (source / "src" / ".gitignore").write_text("!keep.log\n")
    (source / "src" / "gen").mkdir()
    for name in ("a.log", "keep.log", "gen/x.py"):
        (source / "src" / name).write_text("")
    whole = paths(load(trees, source, gitignore=True))
    assert ".git/x.log" in whole
    assert "src/keep.log" in whole
    assert not {"src/a.log", "src/gen"} & set(whole)
    below = paths(load(trees, source / "src", gitignore=True))
    assert below == [".gitignore", "deep", "deep/copy.txt", "keep.log", "run.sh"]


# --- unchanged files are not read again


def test_an_unchanged_file_is_not_read_again_in_a_later_session(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "weights.bin").write_bytes(os.urandom(LARGE))
    settle(source)
    with_state = Trees(tmp_path / "state")
    first = load(with_state, source)
    with_state.close()
    read: list[int] = []
    honest = blobs_module.Blobs.add_stream
    monkeypatch.setattr(
        blobs_module.Blobs, "add_stream", lambda self, fd, **kw: (read.append(fd), honest(self, fd, **kw))[1]
    )
    later = Trees(tmp_path / "state")
    assert load(later, source).digest == first.digest
    assert read == []
    (source / "weights.bin").chmod(0o600)
    assert find_file(load(later, source), "weights.bin").mode == 0o600
    os.utime(source / "weights.bin")
    load(later, source)
    assert len(read) >= 1
    later.close()


def test_a_change_of_the_same_size_and_mtime_is_seen(trees: Trees, source: Path) -> None:
    file = source / "a.txt"
    settle(source)
    before = load(trees, source)
    times = file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert find_file(load(trees, source), "a.txt") != find_file(before, "a.txt")


def test_a_file_written_just_now_is_not_remembered(trees: Trees, source: Path) -> None:
    (source / "a.txt").write_text("fresh")
    load(trees, source)
    remembered = trees.index.hashes_below(os.fsencode(source))
    assert os.fsencode(source / "a.txt") not in remembered


def test_one_file_is_read_as_in_a_directory(trees: Trees, source: Path) -> None:
    settle(source)
    first = trees.read_file(source / "link", Origin("link"))
    assert first == find_file(load(trees, source), "src/run.sh")
    assert trees.read_file(source / "link", Origin("link")) == first


# --- checkouts


def test_a_checkout_has_bytes_modes_links_and_one_constant_time(trees: Trees, source: Path) -> None:
    checkout = trees.path(TreeId(load(trees, source).digest))
    assert (checkout / "src" / "run.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((checkout / "src" / "run.sh").stat().st_mode) == 0o755
    assert os.fspath((checkout / "link").readlink()) == "src/run.sh"
    times = {path.lstat().st_mtime for path in (checkout, *checkout.rglob("*"))}
    assert times == {EPOCH}


def test_equal_files_of_one_tree_do_not_share_an_inode(trees: Trees, source: Path) -> None:
    checkout = trees.path(TreeId(load(trees, source).digest))
    assert (checkout / "a.txt").stat().st_ino != (checkout / "src/deep/copy.txt").stat().st_ino


def test_a_small_edit_of_a_tree_with_a_large_file_copies_no_bytes(trees: Trees, source: Path) -> None:
    (source / "weights.bin").write_bytes(os.urandom(LARGE))
    tree = load(trees, source)
    first = trees.path(trees.put(tree))
    for number in range(5):
        tree = put(tree, f"new-{number}", trees.blobs.add_bytes(b"small"))
        second = trees.path(trees.put(tree))
        assert (first / "weights.bin").stat().st_ino == (second / "weights.bin").stat().st_ino


def test_a_private_copy_shares_nothing_with_the_store(trees: Trees, source: Path, tmp_path: Path) -> None:
    tree = load(trees, source)
    trees.copy_out(tree, tmp_path / "mine")
    (tmp_path / "mine" / "a.txt").write_text("spoilt")
    (tmp_path / "mine" / "src" / "run.sh").write_text("spoilt")
    checkout = trees.path(TreeId(tree.digest))
    assert (checkout / "a.txt").read_text() == "one"
    assert (checkout / "src" / "run.sh").read_text() == "#!/bin/sh\n"


def test_reading_in_a_checkout_or_a_hard_link_does_not_touch_the_source(trees: Trees, source: Path) -> None:
    os.link(source / "a.txt", source / "hard.txt")
    checkout = trees.path(TreeId(load(trees, source).digest))
    assert (checkout / "a.txt").stat().st_ino not in {(source / "a.txt").stat().st_ino}
    assert (source / "a.txt").stat().st_nlink == 2


def test_a_blob_that_was_written_to_is_not_believed(trees: Trees, source: Path) -> None:
    tree = load(trees, source)
    entry = find_file(tree, "a.txt")
    blob = trees.blobs.exact(entry)
    blob.chmod(0o644)
    blob.write_text("bad")  # the same size
    assert not intact(blob, entry)
    with pytest.raises(TreeError, match="missing or damaged"):
        trees.path(TreeId(tree.digest))
    assert trees.path(TreeId(load(trees, source).digest)).joinpath("a.txt").read_text() == "one"


def test_one_content_under_many_modes(trees: Trees, tmp_path: Path) -> None:
    entry = trees.blobs.add_bytes(b"x", mode=0o000)
    tree = DirEntry({f"{mode:o}": FileEntry(entry.sha256, 1, mode) for mode in (0o000, 0o600, 0o755, 0o4755)})
    checkout = trees.path(trees.put(tree))
    assert {path.name: f"{stat.S_IMODE(path.stat().st_mode):o}" for path in checkout.iterdir()} == {
        name: name for name in ("0", "600", "755", "4755")
    }
    assert trees.text(entry) == "x"


def test_a_tree_is_known_in_a_later_session_with_all_its_bytes(source: Path, tmp_path: Path) -> None:
    first = Trees(tmp_path / "state")
    tree = load(first, source)
    first.close()
    later = Trees(tmp_path / "state")
    assert later.has(TreeId(tree.digest))
    assert later.get(TreeId(tree.digest)).digest == tree.digest
    assert not later.has(TreeId("0" * 64))
    later.blobs.exact(find_file(tree, "src/run.sh")).unlink()
    later.close()
    last = Trees(tmp_path / "state")
    assert not last.has(TreeId(tree.digest))
    last.close()


def test_collect_drops_what_is_not_kept(trees: Trees, source: Path) -> None:
    tree = load(trees, source)
    small = remove(tree, "src")
    kept, dropped = trees.put(small), trees.put(tree)
    trees.path(kept)
    gone = trees.path(dropped)
    assert trees.collect([kept]) > 0
    assert trees.has(kept)
    assert not trees.has(dropped)
    assert not gone.exists()
    assert trees.path(kept).joinpath("a.txt").read_text() == "one"


# --- crashes and neighbours


CRASH = """
import os, sys
from pathlib import Path
from embedded_engine import blobs, trees
from embedded_engine.host_import import Origin
state, source, where = sys.argv[1:]
module, name = {"import": (blobs.Blobs, "_keep"), "checkout": (trees, "link_or_copy")}[where]
honest, calls = getattr(module, name), []
def dying(*args):
    calls.append(1)
    if len(calls) == 3:
        os._exit(9)
    return honest(*args)
setattr(module, name, dying)
store = trees.Trees(Path(state))
tree = store.read_directory(Path(source), Origin("source"))
store.path(tree.digest)
"""


@pytest.mark.parametrize("where", ["import", "checkout"])
def test_a_crash_leaves_nothing_that_is_believed(tmp_path: Path, where: str) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.txt").write_text(f"text {number}" * 500)
    died = subprocess.run(
        [sys.executable, "-c", CRASH, tmp_path / "state", root, where], timeout=30, check=False
    )
    assert died.returncode == 9
    assert len(list((tmp_path / "state" / "tmp").iterdir())) == 1
    trees = Trees(tmp_path / "state")
    assert [path.name for path in (tmp_path / "state" / "tmp").iterdir()] == [trees.blobs.temp.name]
    assert not list((tmp_path / "state").glob(".*"))
    tree = load(trees, root)
    checkout = trees.path(TreeId(tree.digest))
    assert {p.name: p.read_text() for p in checkout.iterdir()} == {
        p.name: p.read_text() for p in root.iterdir()
    }
    trees.close()


IMPORT = """
import sys
from pathlib import Path
from embedded_engine.trees import Trees
from embedded_engine.host_import import Origin
store = Trees(Path(sys.argv[1]))
for _ in range(3):
    tree = store.read_directory(Path(sys.argv[2]), Origin("source"))
    store.path(tree.digest)
print(tree.digest)
store.close()
"""


def test_several_processes_take_in_the_same_tree_at_once(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(200):
        (root / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (root / f"d{number % 7}" / f"{number}.txt").write_text(f"text {number % 50}")
    command = [sys.executable, "-c", IMPORT, str(tmp_path / "state"), str(root)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {process.communicate(timeout=40)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(digests) == 1
    trees = Trees(tmp_path / "state")
    tree = TreeId(digests.pop())
    assert trees.has(tree)
    assert len(list(trees.path(tree).rglob("*.txt"))) == 200
    assert len(list((tmp_path / "state" / "tmp").iterdir())) == 1
    trees.close()


# --- without root's rights


def as_nobody(call: Callable[[], None]) -> None:
    """Run ``call`` in a child process without privileges; its failure is this test's."""
    if os.geteuid():
        call()
        return
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            call()
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        report = stream.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, report


@pytest.fixture
def shared_tmp() -> Iterator[Path]:
    """A directory that a user without rights can write to."""
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="trees-"))
    root.chmod(0o777)
    yield root
    remove_tree(root)


def test_without_root_a_tree_goes_in_and_out(shared_tmp: Path) -> None:
    def check() -> None:
        source = shared_tmp / "source"
        (source / "closed").mkdir(parents=True)
        (source / "closed" / "f").write_text("x")
        (source / "closed" / "f").chmod(0o400)
        (source / "closed").chmod(0o555)
        trees = Trees(shared_tmp / "state")
        tree = load(trees, source)
        assert find_file(tree, "closed/f").uid == 0
        checkout = trees.path(TreeId(tree.digest))
        assert (checkout / "closed" / "f").read_text() == "x"
        assert stat.S_IMODE((checkout / "closed").stat().st_mode) == 0o555
        trees.copy_out(find_directory(tree, "closed"), shared_tmp / "mine")
        assert trees.collect([]) > 0
        assert not checkout.exists()
        trees.close()

    as_nobody(check)


def test_without_root_an_unreadable_file_is_told(shared_tmp: Path) -> None:
    def check() -> None:
        source = shared_tmp / "source"
        source.mkdir()
        (source / "secret").write_text("x")
        (source / "secret").chmod(0)
        with pytest.raises(TreeError, match="source/secret: permission denied"):
            load(Trees(shared_tmp / "state"), source)

    as_nobody(check)


def test_without_root_another_owner_is_an_error_only_when_files_are_made(shared_tmp: Path) -> None:
    def check() -> None:
        trees = Trees(shared_tmp / "state")
        entry = trees.blobs.add_bytes(b"x")
        tree = DirEntry({"f": FileEntry(entry.sha256, 1, 0o644, 1234, 1234)})
        identity = trees.put(tree)
        assert trees.text(find_file(tree, "f")) == "x"
        with pytest.raises(TreeError, match="owner 1234:1234 needs root or a user namespace"):
            trees.path(identity)

    as_nobody(check)
