"""What a pickled model may name, by framework: classes and functions that only make values when called.

Everything that is not here is a finding; a team adds its own with ``scan: model_files: allow:``. It is a list
of what honest files need, so no gadget has to be known to be kept out. Left out on purpose:

- They reach or make any other function: ``builtins`` ``getattr``, ``eval``, ``exec``, ``compile``, ``map``,
  ``__import__``, ``type``; ``operator.*``, ``functools.partial``, ``types.*Type``, ``importlib``,
  ``pkgutil.resolve_name``, ``pydoc.locate``, ``idlelib``, ``unittest.mock``, ``test.support``.
- They run code: ``os``, ``posix``, ``nt``, ``pty``, ``subprocess``, ``asyncio``, ``multiprocessing``,
  ``runpy``, ``code``, ``bdb``, ``pdb``, ``timeit``, ``cProfile``, ``trace``, ``ctypes``, ``cffi``, ``pip``,
  ``webbrowser``, ``ensurepip``, ``logging.config``, ``numpy.f2py``, ``numpy.testing``, ``torch.hub``, the
  compilers of ``torch.jit`` and ``torch.utils.cpp_extension``.
- They load once more, out of sight, or write: ``pickle.loads``, ``joblib.load``, ``numpy.load``,
  ``numpy.memmap``, ``torch.load``, ``pandas.read_pickle``, ``dill``, ``cloudpickle``, ``shelve``,
  ``marshal``, ``shutil``, ``socket``. ``torch.storage._load_from_bytes`` is the exception: its argument is
  followed where it stands (``pickle_walk``).
- Names with a dot within (``sklearn.utils``, ``os.system``): attributes reach what a module imports.
"""

import re

_BUILTINS = """
    bool bytearray bytes complex dict float frozenset int list long object range xrange set slice str tuple
    unicode
"""
_NDARRAY_WRAPPERS = "NumpyArrayWrapper NDArrayWrapper ZNDArrayWrapper"
_SPARSE = """
    csr_matrix csc_matrix coo_matrix bsr_matrix dia_matrix dok_matrix lil_matrix
    csr_array csc_array coo_array bsr_array dia_array dok_array lil_array
"""

NAMES = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "copyreg": "_reconstructor __newobj__ __newobj_ex__",
    "copy_reg": "_reconstructor __newobj__",
    "_codecs": "encode",
    "collections": "OrderedDict defaultdict deque Counter",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "uuid": "UUID",
    "random": "Random",
    "re": "_compile",
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
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray _mareconstruct",
    "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    "numpy.random": "__RandomState_ctor",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "numpy.random.mtrand": "RandomState",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64 PCG64DXSM",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random._generator": "Generator",
    "joblib.numpy_pickle": _NDARRAY_WRAPPERS,
    "joblib.numpy_pickle_compat": _NDARRAY_WRAPPERS,
    "sklearn.externals.joblib.numpy_pickle": _NDARRAY_WRAPPERS,
    "sklearn.externals.joblib.numpy_pickle_compat": _NDARRAY_WRAPPERS,
    "sklearn.neighbors._kd_tree": "newObj",
    "sklearn.neighbors._ball_tree": "newObj",
    "sklearn.neighbors.kd_tree": "newObj",
    "sklearn.neighbors.ball_tree": "newObj",
    "sklearn.metrics._dist_metrics": "newObj",
    "sklearn.metrics._scorer": "_passthrough_scorer",
    "_loss": "*",  # scikit-learn 1.6 and later: its compiled losses call their module so
    "sklearn.utils": "Bunch",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    "torch": """
        Size device strided sparse_coo sparse_csr per_tensor_affine per_tensor_symmetric per_channel_affine
        per_channel_symmetric per_channel_affine_float_qparams contiguous_format channels_last preserve_format
    """,
    "torch.storage": "UntypedStorage TypedStorage",
    "torch.serialization": "_get_layout",
    "torch.nn.parameter": "Parameter Buffer",
    "torch._utils": """
        _rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state
        _rebuild_qtensor _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_meta_tensor_no_storage
    """,
    "torch._tensor": "_rebuild_from_type_v2",
    "torch.jit._pickle": """
        build_intlist build_tensorlist build_doublelist build_boollist build_tensor_from_id restore_type_tag
    """,
    "pandas": """
        DataFrame Series Index RangeIndex MultiIndex Categorical CategoricalDtype StringDtype DatetimeTZDtype
        IntervalDtype PeriodDtype Timestamp Timedelta
    """,
    "pandas.arrays": """
        StringArray DatetimeArray TimedeltaArray PeriodArray IntervalArray BooleanArray IntegerArray
        FloatingArray SparseArray Categorical
    """,
    "pandas._libs.internals": "_unpickle_block",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.indexes.base": "Index _new_Index",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "xgboost.core": "Booster",
    "lightgbm.basic": "Booster",
}

_SKLEARN = """
    base calibration cluster compose covariance cross_decomposition decomposition discriminant_analysis dummy
    ensemble feature_extraction feature_selection frozen gaussian_process impute isotonic kernel_approximation
    kernel_ridge linear_model manifold metrics mixture model_selection multiclass multioutput naive_bayes
    neighbors neural_network pipeline preprocessing random_projection semi_supervised svm tree _loss
"""
CLASSES_OF = (
    *(f"sklearn.{part}" for part in _SKLEARN.split()),
    "torch.nn.modules",
    "xgboost.sklearn",
    "lightgbm.sklearn",
    "pandas.core.frame",
    "pandas.core.series",
    "pandas.core.indexes",
    "pandas.core.internals",
    "pandas.core.arrays",
    "pandas.core.dtypes",
)
"""Modules whose classes (one name, starting with a capital) are allowed; their functions are not.

Of scikit-learn those that define estimators: not ``datasets``, ``externals``, ``utils`` or tests."""
IMPORTED = frozenset(
    {"Memory", "Parallel", "Path", "Popen", "Pool", "Thread", "ThreadPool", "TemporaryDirectory"}
)
"""Classes that such modules import from elsewhere and that do something when they are made."""

_CLASS = re.compile(r"_{0,2}[A-Z][A-Za-z0-9_]*")
_TORCH_VALUE = re.compile(r"[A-Z][a-z0-9A-Z]*(Storage|Tensor)|b?float\d+|u?int\d+|bool|q?u?int\d+|complex\d+")
_TORCH_SCRIPT = re.compile(r"__torch__(\.[A-Za-z_]\w*)*")
_CYTHON = re.compile(r"__pyx_unpickle_[A-Za-z0-9_]+")
_TESTS = re.compile(r"(^|\.)(tests?|conftest|test_\w*)(\.|$)")


def allowed(module: str, name: str) -> bool:
    """May a model file name ``module.name``? A dotted name reaches into attributes: never."""
    names = NAMES.get(module, "").split()
    if name in names or ("*" in names and _CLASS.fullmatch(name)):
        return True
    if module == "torch" and _TORCH_VALUE.fullmatch(name):
        return True
    if re.fullmatch(r"scipy\.sparse(\._?(csr|csc|coo|bsr|dia|dok|lil|arrays|matrix))?", module):
        return name in _SPARSE.split()
    if name in IMPORTED or _TESTS.search(module):
        return False
    trusted = any(module == package or module.startswith(f"{package}.") for package in CLASSES_OF)
    return trusted and bool(_CLASS.fullmatch(name) or _CYTHON.fullmatch(name))


def of_torch_script(module: str, name: str) -> bool:
    """Is it a class of a TorchScript archive, whose code is in the archive and isn't Python's?"""
    return bool(_TORCH_SCRIPT.fullmatch(module) and re.fullmatch(r"[A-Za-z_]\w*", name))
