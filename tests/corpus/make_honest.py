"""Make the honest half of the corpus: model files as real libraries of several versions save them.

    python tests/corpus/make_honest.py            # every set, each in a virtual environment of its own
    python tests/corpus/make_honest.py --in NAME  # one set, with the libraries of this very Python

The files and `honest/manifest.json` are committed, so that no test needs these libraries.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pickle
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

HONEST = Path(__file__).parent / "honest"
SETS = {
    "sklearn-1.7": "scikit-learn==1.7.2 numpy==2.3.5 scipy pandas joblib safetensors onnx skops h5py",
    "sklearn-1.4": "scikit-learn==1.4.2 numpy==1.26.4 joblib==1.3.2 onnx==1.15.0 safetensors==0.4.0",
    "sklearn-1.2": "scikit-learn==1.2.2 numpy==1.24.4 scipy==1.10.1 joblib==1.2.0 pandas==1.5.3 skops==0.6.0",
    "boosters": "xgboost-cpu lightgbm scikit-learn numpy pandas",
    "torch-2.2": "torch==2.2.2 numpy<2",  # a torch without CUDA will do
    "torch-1.13": "torch==1.13.1 numpy<2",
    "keras-3": "keras tensorflow-cpu",
}
Maker = Callable[[Path], None]


def estimators() -> dict[str, Any]:
    """Fitted on little data: what counts is the types in them."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        GradientBoostingRegressor,
        HistGradientBoostingClassifier,
        IsolationForest,
        RandomForestClassifier,
        VotingClassifier,
    )
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from sklearn.svm import SVC

    rng = np.random.RandomState(0)
    x, y = rng.rand(40, 3), np.arange(40) % 2
    words = ["guten tag", "good day", "bon jour", "guten abend"]
    columns = ColumnTransformer(
        [("scale", StandardScaler(), [0, 1]), ("code", OneHotEncoder(handle_unknown="ignore"), [2])]
    )
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y),
        "forest": RandomForestClassifier(5, random_state=np.random.RandomState(1)).fit(x, y),
        "boosting": GradientBoostingRegressor(n_estimators=5).fit(x, y),
        "hist": HistGradientBoostingClassifier(max_iter=3).fit(x, y),
        "neighbours": KNeighborsClassifier(algorithm="kd_tree").fit(x, y),
        "balls": KNeighborsClassifier(algorithm="ball_tree").fit(x, y),
        "svc": SVC(probability=False).fit(x, y),
        "sgd": SGDClassifier().fit(x, y),
        "mlp": MLPClassifier((4,), max_iter=3, solver="adam").fit(x, y),
        "gaussian": GaussianProcessRegressor(RBF() + WhiteKernel()).fit(x, y),
        "isolation": IsolationForest(n_estimators=3).fit(x),
        "isotonic": IsotonicRegression().fit(x[:, 0], y),
        "grid": GridSearchCV(LogisticRegression(), {"C": [1.0, 2.0]}, cv=2).fit(x, y),
        "voting": VotingClassifier([("a", LogisticRegression()), ("b", SVC())]).fit(x, y),
        "text": make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(words, [0, 1, 0, 1]),
        "counts": CountVectorizer(dtype=np.float32).fit(words),
        "columns": make_pipeline(columns, LogisticRegression()).fit(np.round(x, 1), y),
    }


def sklearn_files() -> dict[str, Maker]:
    import joblib

    made: dict[str, Maker] = {}
    for number, (name, model) in enumerate(estimators().items()):
        protocol = 2 + number % 4
        made[f"{name}.joblib"] = lambda path, model=model: joblib.dump(model, path)
        made[f"{name}.p{protocol}.pkl"] = lambda path, model=model, protocol=protocol: path.write_bytes(
            pickle.dumps(model, protocol)
        )
    model = estimators()["logistic"]
    for packing in ("zlib", "gzip", "bz2", "lzma", "xz"):
        made[f"logistic.{packing}.joblib"] = lambda path, packing=packing: joblib.dump(
            model, path, compress=(packing, 3)
        )
    for protocol in (0, 1):
        made[f"logistic.p{protocol}.joblib"] = lambda path, protocol=protocol: joblib.dump(
            model, path, protocol=protocol
        )
    return made


def skops_files() -> dict[str, Maker]:
    import skops.io

    chosen = ("logistic", "text", "counts", "isotonic", "svc")
    models = estimators()
    return {f"{name}.skops": lambda path, name=name: skops.io.dump(models[name], path) for name in chosen}


def numpy_files() -> dict[str, Maker]:
    import numpy as np

    mixed = np.array([{"a": 1}, None, np.float32(2.5), "text"], dtype=object)
    table = np.zeros(3, dtype=[("name", "U8"), ("size", "<f8")])

    def of_generators(path: Path) -> None:
        rng = np.random.default_rng(0)
        path.write_bytes(pickle.dumps([rng, np.random.RandomState(0), np.float64(1), np.ma.ones(3)], 4))

    return {
        "array.npy": lambda path: np.save(path, np.arange(12.0).reshape(3, 4)),
        "objects.npy": lambda path: np.save(path, mixed, allow_pickle=True),
        "table.npy": lambda path: np.save(path, table),
        "arrays.npz": lambda path: np.savez(path, a=np.arange(3), b=table, c=mixed),
        "packed.npz": lambda path: np.savez_compressed(path, a=np.zeros((50, 50))),
        "generators.pkl": of_generators,
    }


def joblib_arrays() -> dict[str, Maker]:
    import joblib
    import numpy as np

    arrays = {
        "f": np.arange(9, dtype=np.float16),
        "objects": np.array([1, "a", None], dtype=object),
        "table": np.zeros(3, dtype=[("name", "U8"), ("size", "<f8")]),
        "times": np.array(["2026-01-01"], dtype="M8[D]"),
        "text": np.array(["guten", "tag"]),
        "none": np.zeros((0, 3)),
        "scalar": np.array(1.5),
        "turned": np.asfortranarray(np.ones((2, 3), dtype=complex)),
    }
    return {
        "arrays.joblib": lambda path: joblib.dump(arrays, path),
        "arrays.packed.joblib": lambda path: joblib.dump(arrays, path, compress=3),
    }


def pandas_files() -> dict[str, Maker]:
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])})
    frame["d"] = pd.to_datetime(["2026-01-01", "2026-01-02"])
    return {
        "frame.pkl": frame.to_pickle,
        "frame.pkl.gz": frame.to_pickle,
    }


def safetensors_files() -> dict[str, Maker]:
    import numpy as np
    from safetensors.numpy import save_file

    tensors = {"w": np.ones((2, 3), dtype=np.float32), "b": np.zeros(3, dtype=np.float16)}
    tensors["empty"] = np.zeros((0, 2), dtype=np.int64)
    return {"weights.safetensors": lambda path: save_file(tensors, path, {"format": "np"})}


def onnx_files() -> dict[str, Maker]:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    put = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])

    def saved(path: Path, *, external: bool) -> None:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [put], [out], [weights]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        onnx.checker.check_model(model)
        onnx.save(model, str(path), save_as_external_data=external, location="weights.bin", size_threshold=0)
        (path.parent / "weights.bin").unlink(missing_ok=True)  # the model names it; that is what is tested

    return {
        "matmul.onnx": lambda path: saved(path, external=False),
        "external.onnx": lambda path: saved(path, external=True),
    }


def boosters() -> dict[str, Maker]:
    import joblib
    import lightgbm
    import numpy as np
    import xgboost

    x, y = np.random.RandomState(0).rand(40, 3), np.arange(40) % 2
    tree = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(x, y)
    leaves = lightgbm.LGBMClassifier(n_estimators=3, num_leaves=4, verbose=-1).fit(x, y)
    return {
        "xgboost.pkl": lambda path: path.write_bytes(pickle.dumps(tree, 4)),
        "xgboost.joblib": lambda path: joblib.dump(tree, path),
        "xgboost.json": tree.save_model,
        "xgboost.ubj": tree.save_model,
        "lightgbm.pkl": lambda path: path.write_bytes(pickle.dumps(leaves, 5)),
        "lightgbm.joblib": lambda path: joblib.dump(leaves, path, compress=3),
        "lightgbm.txt": leaves.booster_.save_model,
    }


def torch_files() -> dict[str, Maker]:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv1d(1, 2, 3), torch.nn.BatchNorm1d(2), torch.nn.ReLU(), torch.nn.Linear(2, 2)
    )
    steps = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 1, 4)).sum().backward()
    steps.step()
    checkpoint = {"model": net.state_dict(), "optimizer": steps.state_dict(), "epoch": 3}
    halves = {"a": torch.ones(3, dtype=torch.bfloat16), "b": torch.ones(2).to_sparse(), "s": torch.Size([1])}
    halves["q"] = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    return {
        "state.pt": lambda path: torch.save(net.state_dict(), path),
        "state.legacy.pt": lambda path: torch.save(
            net.state_dict(), path, _use_new_zipfile_serialization=False
        ),
        "module.pt": lambda path: torch.save(net, path),
        "module.legacy.bin": lambda path: torch.save(net, path, _use_new_zipfile_serialization=False),
        "checkpoint.ckpt": lambda path: torch.save(checkpoint, path),
        "types.pth": lambda path: torch.save(halves, path),
        "script.pt": lambda path: torch.jit.script(net).save(str(path)),
        "module.pkl": lambda path: path.write_bytes(pickle.dumps(net, 4)),
        "module.p2.pkl": lambda path: path.write_bytes(pickle.dumps(net, 2)),
    }


def keras_files() -> dict[str, Maker]:
    import keras

    net = keras.Sequential(
        [keras.layers.Input((3,)), keras.layers.Dense(2, activation="relu"), keras.layers.Dense(1)]
    )
    net.compile(optimizer="adam", loss="mse")
    return {"dense.keras": net.save, "dense.h5": net.save}


GROUPS: dict[str, tuple[tuple[str, ...], Callable[[], dict[str, Maker]]]] = {
    "sklearn": (("sklearn", "joblib"), sklearn_files),
    "skops": (("skops", "sklearn"), skops_files),
    "numpy": (("numpy",), numpy_files),
    "joblib": (("joblib", "numpy"), joblib_arrays),
    "pandas": (("pandas",), pandas_files),
    "safetensors": (("safetensors",), safetensors_files),
    "onnx": (("onnx",), onnx_files),
    "boosters": (("xgboost", "lightgbm"), boosters),
    "torch": (("torch",), torch_files),
    "keras": (("keras",), keras_files),
}
OF_SET = {
    "sklearn-1.7": ("sklearn", "skops", "numpy", "joblib", "pandas", "safetensors", "onnx"),
    "sklearn-1.4": ("sklearn", "numpy", "joblib", "safetensors", "onnx"),
    "sklearn-1.2": ("sklearn", "skops", "numpy", "joblib", "pandas"),
    "boosters": ("boosters",),
    "torch-2.2": ("torch",),
    "torch-1.13": ("torch",),
    "keras-3": ("keras",),
}


def make(name: str) -> None:
    """Save the files of one set with the libraries of this Python, and write down how."""
    directory = HONEST / name
    directory.mkdir(parents=True, exist_ok=True)
    entries = {}
    for group in OF_SET[name]:
        modules, makers = GROUPS[group]
        versions = {one: importlib.import_module(one).__version__ for one in modules}
        for file, maker in makers().items():
            path = directory / file
            try:
                maker(path)
            except Exception as err:  # one library's version lacks something: said, and left out
                print(f"left out {name}/{file}: {type(err).__name__}: {err}", file=sys.stderr)
                path.unlink(missing_ok=True)
                continue
            entries[f"{name}/{file}"] = {"library": versions, "python": sys.version.split()[0]}
    manifest = HONEST / "manifest.json"
    known = json.loads(manifest.read_text()) if manifest.exists() else {}
    known = {file: entry for file, entry in known.items() if not file.startswith(f"{name}/")}
    manifest.write_text(json.dumps({**known, **entries}, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Make one set here, or all in environments that are thrown away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--in", dest="name", choices=sorted(SETS), help="make this set with this Python")
    name = parser.parse_args().name
    if name:
        make(name)
        return 0
    for one, requirements in SETS.items():
        with tempfile.TemporaryDirectory() as directory:
            venv.create(directory, with_pip=True)
            python = str(Path(directory) / "bin" / "python")
            install = [python, "-m", "pip", "install", "-q", *requirements.split()]
            if subprocess.run(install, check=False).returncode:
                print(f"left out {one}: its libraries can't be installed here", file=sys.stderr)
                continue
            subprocess.run([python, __file__, "--in", one], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
