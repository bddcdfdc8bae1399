"""Vectors through DLPack: the same memory, for as long as whoever took it wants it, in both versions of the protocol."""

import ctypes
import gc
import threading

import memalloy
import pytest


@pytest.fixture(scope="module")
def vectors():
    from memalloy import _model

    if _model.default_path() is None:
        pytest.skip("the model is not there: make model")
    return memalloy.embed(["one", "two", "three"])


def address(vectors):
    return ctypes.addressof(ctypes.c_char.from_buffer(vectors))


def capsule_name(capsule):
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return get_name(capsule)


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", DELETER)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", DELETER),
        ("flags", ctypes.c_uint64), ("tensor", Tensor),
    ]


def pointer(capsule, name):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, name)


def take(capsule, name):
    """The address of the struct, as a consumer takes it: the capsule gets another name and frees nothing any more."""
    at = pointer(capsule, name)
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = [ctypes.py_object, ctypes.c_char_p]
    used = {b"dltensor": b"used_dltensor", b"dltensor_versioned": b"used_dltensor_versioned"}[name]
    assert rename(capsule, used) == 0
    return at


def check_tensor(tensor, vectors):
    assert (tensor.device_type, tensor.device_id, tensor.ndim) == (1, 0, 2)
    assert (tensor.code, tensor.bits, tensor.lanes, tensor.byte_offset) == (2, 32, 1, 0)
    assert tuple(tensor.shape[:2]) == vectors.shape
    assert tuple(tensor.strides[:2]) == (vectors.shape[1], 1)


def test_the_old_form_is_what_one_gets_unasked(vectors):
    for capsule in (vectors.__dlpack__(), vectors.__dlpack__(max_version=(0, 8)), vectors.__dlpack__(max_version=None)):
        assert capsule_name(capsule) == b"dltensor"
        tensor = Managed.from_address(pointer(capsule, b"dltensor")).tensor
        check_tensor(tensor, vectors)
        assert tensor.data == address(vectors)


def test_the_new_form_says_its_version_and_flags(vectors):
    for wanted in ((1, 0), (1, 3), (2, 0)):
        capsule = vectors.__dlpack__(max_version=wanted)
        assert capsule_name(capsule) == b"dltensor_versioned"
        managed = Versioned.from_address(pointer(capsule, b"dltensor_versioned"))
        assert (managed.major, managed.minor, managed.flags) == (1, 0, 0)  # writable, as the buffer is, and no copy
        check_tensor(managed.tensor, vectors)
        assert managed.tensor.data == address(vectors)


def test_a_copy_is_one_and_says_so(vectors):
    capsule = vectors.__dlpack__(max_version=(1, 0), copy=True)
    managed = Versioned.from_address(pointer(capsule, b"dltensor_versioned"))
    assert managed.flags == 2
    assert managed.tensor.data != address(vectors)
    count = 3 * vectors.shape[1]
    numbers = (ctypes.c_float * count).from_address(managed.tensor.data)
    assert list(numbers) == [x for row in vectors.tolist() for x in row]
    for no_copy in (None, False):
        capsule = vectors.__dlpack__(copy=no_copy)
        assert Managed.from_address(pointer(capsule, b"dltensor")).tensor.data == address(vectors)


def test_the_device_is_the_cpu(vectors):
    assert vectors.__dlpack_device__() == (1, 0)
    vectors.__dlpack__(dl_device=(1, 0))
    with pytest.raises(BufferError, match=r"\(2, 0\)"):
        vectors.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="stream"):
        vectors.__dlpack__(stream=1)
    for bad in ({"max_version": 1}, {"max_version": (1,)}, {"max_version": ("1", "0")}, {"dl_device": "cpu"}):
        with pytest.raises(TypeError):
            vectors.__dlpack__(**bad)
    with pytest.raises(TypeError):
        vectors.__dlpack__(None)


def test_what_was_taken_outlives_the_vectors_and_may_be_freed_by_any_thread(model_path):
    vectors = memalloy.embed(["kept"])
    rows = vectors.tolist()
    taken = [take(vectors.__dlpack__(), b"dltensor"), take(vectors.__dlpack__(max_version=(1, 0)), b"dltensor_versioned")]
    del vectors
    gc.collect()
    tensors = [Managed.from_address(taken[0]).tensor, Versioned.from_address(taken[1]).tensor]
    for tensor in tensors:
        assert list((ctypes.c_float * 384).from_address(tensor.data)) == rows[0]
    # CFUNCTYPE lets go of the GIL: the deleter runs without it.
    deleters = [Managed.from_address(taken[0]).deleter, Versioned.from_address(taken[1]).deleter]
    for at, deleter in zip(taken, deleters):
        thread = threading.Thread(target=deleter, args=(at,))
        thread.start()
        thread.join()


def test_nothing_is_left_of_capsules_that_nobody_took(model_path):
    resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096  # noqa: E731
    vectors = memalloy.embed(["x"] * 500)
    for _ in range(50):
        vectors.__dlpack__(copy=True)
        vectors.__dlpack__(copy=True, max_version=(1, 0))
    before = resident()
    for _ in range(200):  # 150 MB if they stayed
        vectors.__dlpack__(copy=True)
        vectors.__dlpack__(copy=True, max_version=(1, 0))
    assert resident() - before < 20_000_000


def test_numpy_takes_it_without_a_copy(model_path):
    numpy = pytest.importorskip("numpy")
    vectors = memalloy.embed(["one", "two"])
    matrix = numpy.from_dlpack(vectors)
    assert matrix.shape == (2, 384) and matrix.dtype == numpy.float32
    assert numpy.shares_memory(matrix, numpy.asarray(vectors))
    assert matrix.flags.writeable
    rows = vectors.tolist()
    del vectors
    gc.collect()
    assert matrix.tolist() == rows
    assert numpy.from_dlpack(memalloy.embed([])).shape == (0, 384)
    if numpy.lib.NumpyVersion(numpy.__version__) >= "2.1.0":
        vectors = memalloy.embed(["one"])
        copied = numpy.from_dlpack(vectors, copy=True)
        assert not numpy.shares_memory(copied, numpy.asarray(vectors)) and copied.tolist() == vectors.tolist()


def test_torch_takes_it_without_a_copy(model_path):
    torch = pytest.importorskip("torch")
    vectors = memalloy.embed(["one", "two"])
    tensor = torch.from_dlpack(vectors)
    assert tensor.shape == (2, 384) and tensor.data_ptr() == address(vectors)
    rows = vectors.tolist()
    del vectors
    assert tensor.tolist() == rows
