"""How fast a push is, what a second registry costs, what memory it takes. Prints a table.

    .venv/bin/python benchmarks/push.py [--pairs N] [--layers N] [--layer-mb N] [--big-mb N]

Everything is real: docker-registry processes on loopback, this project's push in a process of its own, and
`skopeo copy` of the same layout into the same registry. Each pair has new, incompressible content, goes
into a registry that has never seen it, and alternates who is first.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import anyio  # noqa: E402  the path is known now
from anyio.abc import SocketStream  # noqa: E402
from registry_process import free_port, running_registry  # noqa: E402

from pipelines.registries.credentials import Login  # noqa: E402
from pipelines.registries.descriptors import (  # noqa: E402
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    canonical_json,
)
from pipelines.registries.layout import ImageLayout  # noqa: E402
from pipelines.registries.oci import OciRegistry  # noqa: E402
from pipelines.registries.reference import Repository  # noqa: E402
from pipelines.release_image import ReleaseImage  # noqa: E402
from pipelines.stages.push import push  # noqa: E402
from pipelines.stages.tag import Names  # noqa: E402

TAG = "1.0.0"
STEP = 1024 * 1024
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Measured:
    seconds: float
    cpu_s: float
    uploaded: int
    peak_mb: float
    start_mb: float


def random_gzip(size: int) -> Iterator[bytes]:
    """A gzip member of about ``size`` random bytes, stored: what a layer of weights looks like."""
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    crc = 0
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    for _ in range(max(1, size // STEP)):
        block = os.urandom(STEP)
        crc = zlib.crc32(block, crc)
        yield packer.compress(block)
    yield packer.flush() + struct.pack("<II", crc, max(1, size // STEP) * STEP & 0xFFFFFFFF)


def image(directory: Path, layers: int, layer_bytes: int) -> int:
    """Write a layout with one image of random layers under TAG; the bytes of its layers."""

    layout = ImageLayout.create(directory)
    described = []
    for _ in range(layers):
        digest, path = hashlib.sha256(), directory / "new"
        with path.open("wb") as file:
            for piece in random_gzip(layer_bytes):
                digest.update(piece)
                file.write(piece)
        blob = Descriptor(GZIP_LAYER, f"sha256:{digest.hexdigest()}", path.stat().st_size)
        path.rename(layout.path(blob.digest))
        described.append(blob)
    config = canonical_json(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in described]},
        }
    )
    manifest = Manifest(
        OCI_MANIFEST,
        canonical_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": Descriptor(OCI_CONFIG, layout.write_blob(config), len(config)).to_json(),
                "layers": [blob.to_json() for blob in described],
            }
        ),
    )
    layout.write_blob(manifest.body)
    layout.set_tag(TAG, manifest)
    return sum(blob.size for blob in described)


def peak_mb() -> float:
    """The peak of this process. (Not ru_maxrss: that begins with the peak of the one that started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def one(layout: Path, repositories: list[str]) -> None:
    """This process pushes once, and tells what it took."""

    async def nobody() -> Login | None:
        return None

    targets = [OciRegistry(Repository.parse(name), nobody) for name in repositories]
    stored = ImageLayout(layout)
    release = ReleaseImage(stored, stored.read_manifest(TAG))

    async def measured() -> Measured:
        start = peak_mb()
        began, cpu = time.monotonic(), time.process_time()
        receipt = await push(release, Names((TAG,), ()), targets)
        seconds = time.monotonic() - began
        uploaded = sum(each.uploaded for each in receipt.deliveries)
        return Measured(seconds, time.process_time() - cpu, uploaded, peak_mb(), start)

    print(json.dumps(vars(anyio.run(measured))))


def ours(layout: Path, *repositories: str) -> Measured:
    command = [sys.executable, __file__, "--one", str(layout), *repositories]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return Measured(**json.loads(done.stdout))


def skopeo(layout: Path, repository: str, home: Path) -> float:
    command = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "-q"]
    command += [f"oci:{layout}:{TAG}", f"docker://{repository}:{TAG}"]
    began = time.monotonic()
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "HOME": str(home)})
    return time.monotonic() - began


@dataclass(frozen=True)
class Place:
    """A registry: how to reach it, and its process."""

    host: str
    pid: int

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def registry(directory: Path) -> Iterator[Place]:
    with running_registry(directory) as running:
        yield Place(running.host, running.process_id)
    shutil.rmtree(directory)


def relay(port: int, target: int, bytes_s: float) -> None:
    """This process is a line: it passes on so many bytes a second, whatever the number of connections."""
    free_at = 0.0

    async def pump(source: SocketStream, sink: SocketStream) -> None:
        nonlocal free_at
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                free_at = max(free_at, anyio.current_time()) + len(data) / bytes_s
                await anyio.sleep_until(free_at)
                await sink.send(data)
            await sink.send_eof()

    async def connected(client: SocketStream) -> None:
        server = await anyio.connect_tcp("127.0.0.1", target)
        async with client, server, anyio.create_task_group() as tasks:
            tasks.start_soon(pump, client, server)
            tasks.start_soon(pump, server, client)

    async def serve() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
        await listener.serve(connected)

    anyio.run(serve)


@contextlib.contextmanager
def far_registry(directory: Path, mb_s: float) -> Iterator[Place]:
    """A registry at the end of a line of its own."""
    with registry(directory) as near:
        port = free_port()
        target = near.host.rpartition(":")[2]
        command = [sys.executable, __file__, "--relay", str(port), target, str(mb_s * 1e6)]
        line = subprocess.Popen(command)
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield Place(f"127.0.0.1:{port}", near.pid)
        finally:
            line.terminate()
            line.wait()


def pair(work: Path, number: int, layers: int, layer_bytes: int) -> tuple[float, float]:
    """The same new image, once by each, into registries of their own: ours and skopeo's seconds."""
    layout = work / "layout"
    image(layout, layers, layer_bytes)
    seconds = {}
    for who in ("ours", "skopeo") if number % 2 else ("skopeo", "ours"):
        with registry(work / "registry") as place:
            name = f"{place.host}/bench/model{number}"
            seconds[who] = ours(layout, name).seconds if who == "ours" else skopeo(layout, name, work)
    shutil.rmtree(layout)
    return seconds["ours"], seconds["skopeo"]


def second_registry(
    work: Path, layers: int, layer_bytes: int, mb_s: float
) -> tuple[Measured, Measured, Measured, float]:
    """One registry alone, two at once, the same again, which has nothing to send; a registry's CPU time."""
    layout = work / "layout"
    image(layout, layers, layer_bytes)

    def place(name: str) -> contextlib.AbstractContextManager[Place]:
        return far_registry(work / name, mb_s) if mb_s else registry(work / name)

    with place("registry") as only:
        alone = ours(layout, f"{only.host}/bench/model")
        theirs = only.cpu_s()
    with place("a") as first, place("b") as second:
        names = [f"{first.host}/bench/model", f"{second.host}/bench/model"]
        both = ours(layout, *names)
        again = ours(layout, *names)
    shutil.rmtree(layout)
    return alone, both, again, theirs


def big_layer(work: Path, size: int) -> Measured:
    layout = work / "layout"
    image(layout, 1, size)
    with registry(work / "registry") as place:
        measured = ours(layout, f"{place.host}/bench/big")
    shutil.rmtree(layout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--layer-mb", type=int, default=100)
    parser.add_argument("--big-mb", type=int, default=3000)
    parser.add_argument("--line-mb", type=int, default=25, help="MB/s of the lines to two far registries")
    parser.add_argument("--relay", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(Path(asked.one[0]), asked.one[1:])
        return
    if asked.relay:
        port, target, bytes_s = asked.relay
        relay(int(port), int(target), float(bytes_s))
    layer_bytes = asked.layer_mb * 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        ratios = []
        for number in range(asked.pairs):
            own, other = pair(work, number, asked.layers, layer_bytes)
            ratios.append(other / own)
            print(
                f"{asked.layers} x {asked.layer_mb} MB: {own:.2f} s, skopeo {other:.2f} s: {ratios[-1]:.2f}"
            )
        if ratios:
            print(
                f"speed of ours over skopeo's, median of {len(ratios)} pairs: {statistics.median(ratios):.2f}"
            )
        for mb_s in (0, asked.line_mb):
            alone, both, again, theirs = second_registry(work, asked.layers, layer_bytes, mb_s)
            where = f"at the end of a line of {mb_s} MB/s each" if mb_s else "on this machine"
            print(
                f"registries {where}: one {alone.seconds:.2f} s, two at once {both.seconds:.2f} s: "
                f"the second costs {both.seconds / alone.seconds - 1:.2f} of the first "
                f"(our own CPU time: {alone.cpu_s:.2f} s and {both.cpu_s:.2f} s; "
                f"each registry's: {theirs:.2f} s)"
            )
            print(f"the same again: {again.uploaded} bytes sent, {again.seconds:.2f} s")
        if asked.big_mb:
            big = big_layer(work, asked.big_mb * 1_000_000)
            print(
                f"a layer of {asked.big_mb} MB: {big.seconds:.1f} s, peak {big.peak_mb:.0f} MB "
                f"({big.start_mb:.0f} MB before the push)"
            )


if __name__ == "__main__":
    main()
