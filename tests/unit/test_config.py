from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.config import DockerfileBuild, ImageBuild, PythonBuild, find_models, load
from pipelines.config_values import SecretRef
from pipelines.errors import ConfigError
from pipelines.registries.reference import Repository

Write = Callable[..., Path]

DIGEST = "a" * 64


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Makes a model's directory ``mine`` with a Dockerfile, and the modelport.yaml that is given."""
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\n")

    def written(text: str, **files: str) -> Path:
        for name, content in files.items():
            (directory / name.replace("__", ".")).write_text(content)
        file = directory / "modelport.yaml"
        file.write_text(text)
        return file

    return written


def refused(file: Path, environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(file, environ or {})
    assert caught.value.exit_code == 2
    return caught.value


def line_of(error: ConfigError) -> int | None:
    assert error.place is not None
    return error.place.line


def test_an_empty_file_beside_a_dockerfile_is_enough(write: Write) -> None:
    model = load(write(""), {})
    assert model.name == "mine"
    assert model.build == DockerfileBuild()
    assert (model.release_tags, model.moving_templates) == (("{commit:12}", "{version}"), ("latest",))
    assert model.release.branches == ("main", "master")
    assert model.registries == ()
    assert model.tools.image == "python:3.11-slim"
    assert model.directory == model.file.parent
    assert model.directory.is_absolute()


def test_the_three_kinds_of_build(write: Write) -> None:
    docker = load(write("build: {target: serve, args: {THREADS: 4}, secrets: {token: env://T}}"), {}).build
    assert isinstance(docker, DockerfileBuild)
    assert (docker.target, docker.args, docker.secrets) == ("serve", {"THREADS": "4"}, {"token": "env://T"})
    text = f"""
build:
  python:
    dependencies: requirements.txt
    weights:
      - pip: some-model==1.2.0
        sha256: {{"**/model.npz": "sha256:{DIGEST}"}}
      - path: weights.bin
    code: [server.py]
    command: [python, server.py]
    port: 9000
"""
    model = load(write(text, requirements__txt="", weights__bin="w", server__py=""), {})
    assert isinstance(model.build, PythonBuild)
    assert model.build.weights[0].sha256 == {"**/model.npz": DIGEST}
    assert model.build.weights[1].path == "weights.bin"
    assert model.check.port == 9000, "the port that the model listens on is the one that is checked"
    other = load(write("build: {image: registry.example.com/team/model:1}"), {}).build
    assert other == ImageBuild(image="registry.example.com/team/model:1")


def test_values_can_not_be_changed(write: Write) -> None:
    model = load(write(""), {})
    with pytest.raises(Exception, match="frozen"):
        model.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "build:\n  dockerflie: Dockerfile\n",
            2,
            'unknown key "dockerflie" in build; did you mean "dockerfile"?',
        ),
        ("name: mine\nregistry: x\n", 2, 'unknown key "registry"; did you mean "registries"?'),
        ("build:\n  pyhton: {}\n", 2, 'unknown key "pyhton" in build; did you mean "python"?'),
        (
            "build:\n  python:\n    dependancies: r\n",
            3,
            'unknown key "dependancies" in build.python; did you mean',
        ),
        ("directory: /\n", 1, 'unknown key "directory"'),
        ("x:\n  y: 1\n", 1, 'unknown key "x"'),
        ("name: a\ntitle: b\nname: c\n", 3, 'the key "name" is there twice; first in line 1'),
        ("build:\n  args:\n    A: 1\n    A: 2\n", 4, 'the key "A" is there twice; first in line 3'),
        ("name: [\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML: mapping values are not allowed here"),
        ("name: mine\n\tbuild: x\n", 2, "not valid YAML"),
        (
            "name: !!python/object/apply:os.system [id]\n",
            1,
            "not valid YAML: could not determine a constructor",
        ),
        ("- name\n", 1, "the file has to be a mapping"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML: expected a single document"),
        ("name: mine\nversion: 1.10\n", 2, "version: expected text, found a number"),
        ("moving_tags: latest\n", 1, "moving_tags: expected a list, found text"),
        ("build: Dockerfile\n", 1, "build: expected a mapping of keys to values, found text"),
        ("build:\n", 1, "build: expected a mapping of keys to values, found nothing"),
        ("check:\n  port: eighty\n", 2, "check.port: expected a whole number, found text"),
        ("check:\n  port: 70000\n", 2, "check.port: has to be at most 65535"),
        ("name: My_Model\n", 1, "name: does not match"),
        ("license: Apache 2\n", 1, 'license: "Apache 2" is not an SPDX licence expression'),
        ("build:\n  python: {}\n  image: a\n", 1, 'build: "python" and "image" exclude each other'),
        ("build:\n  dockerfile: D\n  python: {}\n", 1, 'build: "dockerfile" and "python" exclude each other'),
        ("build:\n  python: {}\n  context: .\n", 1, 'build: "context" belongs to a Dockerfile build'),
        ("build:\n  dockerfile: Dockerfil\n", 2, 'build.dockerfile: there is no file "Dockerfil"'),
        ("build:\n  dockerfile: .\n", 2, 'build.dockerfile: "." is not a file'),
        ("build:\n  context: ../..\n", 2, 'build.context: "../.." is outside the repository'),
        ("build:\n  dockerfile: /etc/passwd\n", 2, '"/etc/passwd" is an absolute path'),
        ("build:\n  python:\n    weights:\n    - path: Dockerfile\n      pip: a==1\n", 4, "here are both"),
        ("build:\n  python:\n    weights:\n    - sha256: {}\n", 4, "here are neither"),
        ("build:\n  python:\n    weights:\n    - pip: a>=1\n", 4, '"a>=1" is not a pinned requirement'),
        (
            "build:\n  python:\n    weights:\n    - pip: a==1\n      sha256: {x: abc}\n",
            5,
            "64 hexadecimal digits",
        ),
        ("tags: ['{comit:12}']\n", 1, "unknown placeholder {comit}; did you mean {commit}?"),
        ("tags:\n- '{commit'\n", 2, "has a brace without its twin"),
        ("tags:\n- '{version:3}'\n", 2, "{version} can't be cut"),
        ("tags:\n- stable\n", 2, 'the tag "stable" is the same for several commits'),
        ("tags:\n- {tag: stable}\n", 2, 'the tag "stable" is the same for several commits'),
        ("tags:\n- {tag: 'a/b', moving: true}\n", 2, "does not make a tag"),
        (
            "tags:\n- {tag: latest, movin: true}\n",
            2,
            'unknown key "movin" in tags[0]; did you mean "moving"?',
        ),
        ("tags:\n- 1.5\n", 2, "expected text, found a number"),
        (
            "environments: {a: {registries: [r.example/m], moving_tags: ['{version}']}}\n",
            1,
            "has a placeholder",
        ),
        ("tags:\n- '{commit}/x'\n", 2, "does not make a tag"),
        ("tags:\n- '{commit.__class__}'\n", 2, "unknown placeholder"),
        ("registries:\n- https://a.example/b\n", 2, 'written without a scheme: "a.example/b"'),
        ("registries:\n- a.example/Team\n", 2, "a repository is in lower case"),
        ("registries:\n- a.example/b:1\n", 2, "has a tag or digest"),
        ("registries:\n- team/models\n", 2, "does not begin with a registry host"),
        ("registries:\n- a.example/b//c\n", 2, "is not a valid repository"),
        ("registries:\n- a.example/b\n- repositry: a.example/b\n", 3, 'did you mean "repository"?'),
        ("registries:\n- username: env://U\n", 2, '"repository" is missing in registries[0]'),
    ],
)
def test_each_error_has_its_line(write: Write, text: str, line: int, message: str) -> None:
    error = refused(write(text))
    assert message in error.message
    assert line_of(error) == line
    assert str(error).startswith(f"{error.place}: ")


@pytest.mark.parametrize(
    "text",
    [
        "registries:\n- repository: a.example/b\n  password: hunter2-secret\n",
        "registries:\n- repository: a.example/b\n  password: [hunter2-secret]\n",
        "registries:\n- https://robot:hunter2-secret@a.example/b\n",
        "registries:\n- robot:hunter2-secret@a.example/b\n",
        "build:\n  secrets:\n    token: hunter2-secret\n",
        "build:\n  secrets:\n    token: env://not a name hunter2-secret\n",
    ],
)
def test_a_secret_in_plain_text_is_refused_and_not_repeated(write: Write, text: str) -> None:
    error = refused(write(text))
    shown = f"{error} {error.hint} {error.detail} {error.__cause__}"
    assert "hunter2" not in shown
    assert line_of(error) is not None


def test_a_build_argument_that_is_no_text_is_not_repeated(write: Write) -> None:
    error = refused(write("build:\n  args:\n    - hunter2-secret\n"))
    assert "build.args: expected a mapping" in error.message
    assert "hunter2" not in f"{error} {error.hint} {error.__cause__}"


def test_of_several_errors_the_first_is_told_and_the_rest_counted(write: Write) -> None:
    error = refused(write("name: A\nversion: 2\nregistries: [x]\nbild: {}\n"))
    assert 'unknown key "bild"; did you mean "build"? (and 3 more errors)' in error.message
    assert line_of(error) == 4, "an unknown key is told first: a missing one is often the same slip"
    assert [f":{line}: " in error.detail for line in (1, 2, 3)] == [True] * 3


def test_hints_say_what_to_write(write: Write) -> None:
    assert refused(write("version: 1.10\n")).hint == 'put it in quotes: "1.10"'
    assert refused(write("moving_tags: latest\n")).hint == 'put it in brackets: ["latest"]'
    assert refused(write("build: {dockerfile: dockerfile}\n")).hint == 'did you mean "Dockerfile"?'
    assert refused(write("registries: ['a.example/Team']\n")).hint == 'write "a.example/team"'
    assert (
        refused(write("registries: ['http://a.example/b']\n")).hint
        == "for HTTP without TLS add plain_http: true"
    )


def test_aliases_can_not_blow_the_file_up(write: Write) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too large" in refused(write("\n".join(rows))).message
    assert "too deep" in refused(write("name: &a [*a]")).message


def test_merge_keys_work_and_keep_their_lines(write: Write) -> None:
    one = "&one {repository: a.example/x, username: env://U}"
    file = write(f"registries:\n- {one}\n- {{<<: *one, repository: b.example/y}}\n")
    first, second = load(file, {}).registries
    assert (first.repository, second.repository) == ("a.example/x", "b.example/y")
    assert second.username == "env://U"


def test_not_text_and_not_there(write: Write, tmp_path: Path) -> None:
    file = write("")
    file.write_bytes(b"name: mine\ntitle: \xff\n")
    error = refused(file)
    assert (error.message, line_of(error)) == ("not UTF-8 text", 2)
    assert "modelport init" in refused(tmp_path / "modelport.yaml").hint
    file.write_bytes(b"\xef\xbb\xbfname: with-bom\r\n")
    assert load(file, {}).name == "with-bom"
    file.write_bytes(b"name: a\x00b\n")
    assert line_of(refused(file)) == 1


def test_a_symbolic_link_out_of_the_repository_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_text("x")
    file = write("build: {python: {weights: [{path: link.bin}]}}")
    (file.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    assert "is outside the repository" in refused(file).message
    (tmp_path / ".git").mkdir()  # now both are in one repository
    assert load(file, {}).name == "mine"


def test_the_dockerfile_is_named_from_the_model_and_lies_in_the_context(write: Write, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    model = load(write("build: {context: ..}"), {})
    assert isinstance(model.build, DockerfileBuild)
    assert model.build.dockerfile_in_context(model.directory) == "mine/Dockerfile"
    file = write("build: {context: src}")
    (file.parent / "src").mkdir()
    assert 'the Dockerfile "Dockerfile" is outside of the context "src"' in refused(file).message


def test_a_git_lfs_pointer_is_not_taken_for_weights(write: Write) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90000000\n"
    error = refused(write("build: {python: {weights: [{path: model.bin}]}}", model__bin=pointer))
    assert '"model.bin" is a Git LFS pointer' in error.message
    assert error.hint == "run `git lfs pull`"


def test_the_environment_takes_the_place_of_the_file(write: Write) -> None:
    file = write("registries: [a.example/b]\ntools: {image: 'x:1'}")
    environ = {
        "MODELPORT_REGISTRY": "127.0.0.1:5000/models, b.example/team",
        "MODELPORT_REGISTRY_PASSWORD": "hunter2",
        "MODELPORT_TOOLS_IMAGE": "mirror.example/python:3.11",
    }
    model = load(file, environ)
    assert [target.repository for target in model.registries] == ["127.0.0.1:5000/models", "b.example/team"]
    assert model.registries[0].password == "env://MODELPORT_REGISTRY_PASSWORD"
    assert model.registries[0].username is None
    assert model.registries[0].password.resolve(environ) == "hunter2"
    assert model.tools.image == "mirror.example/python:3.11"
    assert "hunter2" not in repr(model)
    assert load(file, {"MODELPORT_REGISTRY": ""}) == load(file, {}), "what CI makes of a variable nobody set"
    wrong = refused(file, {"MODELPORT_REGISTRY": "https://a.example"})
    assert wrong.message.startswith("MODELPORT_REGISTRY: the address is written without a scheme")


@pytest.mark.parametrize(
    "host", ["localhost:5000", "127.0.0.1:5000", "127.1.2.3:80", "[::1]:5000", "registry.localhost:1"]
)
def test_loopback_registries_need_no_certificate(write: Write, host: str) -> None:
    [target] = load(write(f"registries: ['{host}/models']"), {}).registries
    assert Repository.parse(target.repository_of("mine")).base_url == f"http://{host}"
    assert target.host == host
    assert target.repository_of("mine") == f"{host}/models/mine"


def test_other_registries_are_spoken_to_with_tls_unless_asked(write: Write) -> None:
    text = "registries: [a.example, {repository: '10.0.0.1:5000/x', plain_http: true}, 'b.example:5000/y']"
    targets = load(write(text), {}).registries
    assert [target.plain_http for target in targets] == [False, True, False]
    assert targets[0].repository_of("mine") == "a.example/mine"


def test_secret_references_resolve_and_never_show_the_value(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    assert SecretRef.parse("env://TOKEN").resolve({"TOKEN": "abc"}) == "abc"
    assert SecretRef.parse(f"file://{file}").resolve() == "from a file"
    assert SecretRef.parse("cmd://printf abc | tr a-c d-f").resolve() == "def"
    for reference in (
        "env://NOT_SET_ANYWHERE",
        f"file://{tmp_path}/none",
        "cmd://echo abc; exit 3",
        "cmd://true",
    ):
        with pytest.raises(ConfigError) as caught:
            SecretRef.parse(reference).resolve({})
        assert reference in caught.value.message
        assert caught.value.hint


def test_models_are_found_in_a_file_a_directory_and_a_repository(tmp_path: Path) -> None:
    places = [
        "b",
        "a",
        "deep/er/c",
        ".hidden/x",
        ".venv/lib/x",
        "node_modules/x",
        ".modelport/x",
        "a/.modelport/x",
    ]
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "modelport.yaml").write_text("")
    found = [str(file.relative_to(tmp_path)) for file in find_models(tmp_path)]
    assert found == ["a/modelport.yaml", "b/modelport.yaml", "deep/er/c/modelport.yaml"]
    assert find_models(tmp_path / "b") == (tmp_path / "b/modelport.yaml",)
    assert find_models(tmp_path / "b/modelport.yaml") == (tmp_path / "b/modelport.yaml",)


def test_no_model_at_all_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        find_models(tmp_path)
    assert caught.value.hint == f"`modelport init {tmp_path}` makes one"
    with pytest.raises(ConfigError, match="no such file or directory"):
        find_models(tmp_path / "nothing")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelport.yaml").write_text("")
    assert find_models(Path()) == (Path(os.path.realpath(tmp_path)) / "modelport.yaml",)


@pytest.mark.parametrize(
    ("directory", "name"), [("LangId", "langid"), ("my model (2)", "my-model-2"), ("a_b.c", "a_b.c")]
)
def test_the_name_is_the_directory_s_unless_given(tmp_path: Path, directory: str, name: str) -> None:
    (tmp_path / directory).mkdir()
    (tmp_path / directory / "Dockerfile").write_text("")
    (tmp_path / directory / "modelport.yaml").write_text("")
    assert load(tmp_path / directory / "modelport.yaml", {}).name == name


def test_a_registry_is_named_once(write: Write) -> None:
    error = refused(write("registries: [a.example/b, {repository: a.example/b}]"))
    assert '"a.example/b" is named twice' in error.message
    twice = {"MODELPORT_REGISTRY": "a.example/b,a.example/b"}
    assert "MODELPORT_REGISTRY" in refused(write("name: mine"), twice).message


def test_an_authoritys_certificate_is_looked_for_beside_the_configuration(write: Write) -> None:
    text = "registries: [{repository: '127.0.0.1:5000/x', ca_file: ca.pem}]"
    assert 'there is no file "ca.pem"' in refused(write(text)).message
    [target] = load(write(text, ca__pem="certificate"), {}).registries
    assert Path(str(target.ca_file)).read_text() == "certificate"
    repository = Repository.parse("127.0.0.1:5000/x/mine", ca_file=str(target.ca_file))
    assert repository.base_url.startswith("https:")
