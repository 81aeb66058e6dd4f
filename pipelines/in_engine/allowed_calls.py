"""What a pickled model may name, by framework: classes and functions that only make values when called.

Everything that is not here is a finding; a team adds its own with ``scan: model_files: allow:``. Left out on
purpose, although honest files hold them: ``builtins.getattr``, ``operator.*``, ``functools.partial`` (they
reach any function) and ``torch.storage._load_from_bytes`` (it unpickles a second time, out of sight).
"""

import re

_BUILTINS = """
    bool bytearray bytes complex dict float frozenset int list long object range xrange set slice str tuple
    unicode
"""

NAMES = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "copyreg": "_reconstructor __newobj__",
    "copy_reg": "_reconstructor __newobj__",
    "_codecs": "encode",
    "collections": "OrderedDict defaultdict deque Counter",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "random": "Random",
    "types": "SimpleNamespace",
    "pathlib": "PurePosixPath PureWindowsPath PosixPath Path",
    "numpy": """
        ndarray dtype matrix recarray bool bool_ int int8 int16 int32 int64 uint8 uint16 uint32 uint64
        float float16 float32 float64 complex64 complex128 str_ bytes_ object_ datetime64 timedelta64
    """,
    "numpy.matrixlib.defmatrix": "matrix",
    "numpy.core._internal": "_reconstruct",
    "numpy.dtypes": "*",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.ma.core": "MaskedArray _mareconstruct",
    "numpy.random": "*",
    "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "numpy.random.mtrand": "RandomState",
    "joblib.numpy_pickle": "NumpyArrayWrapper NDArrayWrapper ZNDArrayWrapper",
    "joblib.numpy_pickle_compat": "NDArrayWrapper ZNDArrayWrapper",
    "sklearn.neighbors._kd_tree": "newObj",
    "sklearn.neighbors._ball_tree": "newObj",
    "torch": "Size device",
    "torch.storage": "UntypedStorage TypedStorage",
    "torch.serialization": "_get_layout",
    "torch._utils": """
        _rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state
        _rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_meta_tensor_no_storage
    """,
    "torch._tensor": "_rebuild_from_type_v2",
    "pandas": "DataFrame Series Index RangeIndex MultiIndex",
    "pandas._libs.internals": "_unpickle_block",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.indexes.base": "Index _new_Index",
}

CLASSES_OF = (
    "sklearn",
    "scipy.sparse",
    "torch.nn.modules",
    "xgboost",
    "lightgbm",
    "pandas.core",
    "numpy.random",
)
"""Packages whose classes (one name, starting with a capital) are allowed; their functions are not."""

_CLASS = re.compile(r"_{0,2}[A-Z][A-Za-z0-9_]*")
_TORCH_VALUE = re.compile(r"[A-Z][a-z0-9A-Z]*(Storage|Tensor)|b?float\d+|u?int\d+|bool|q?u?int\d+|complex\d+")
_CYTHON = re.compile(r"__pyx_unpickle_[A-Za-z0-9_]+")


def allowed(module: str, name: str) -> bool:
    """May a model file name ``module.name``? A dotted name reaches into attributes: never."""
    names = NAMES.get(module, "").split()
    if name in names or ("*" in names and _CLASS.fullmatch(name)):
        return True
    if module == "torch" and _TORCH_VALUE.fullmatch(name):
        return True
    trusted = any(module == package or module.startswith(f"{package}.") for package in CLASSES_OF)
    return trusted and bool(_CLASS.fullmatch(name) or _CYTHON.fullmatch(name))
