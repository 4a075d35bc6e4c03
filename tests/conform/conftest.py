import os
import shutil
import tempfile

import pytest

import usrbio_ctypes


@pytest.fixture(scope="session")
def lib():
    return usrbio_ctypes.load()


@pytest.fixture(params=["disk", "memory"])
def mount(request):
    """A fresh mount: a directory with the marker in it."""
    if request.param == "memory":
        parent = "/dev/shm"
    else:
        parent = os.path.dirname(os.path.dirname(usrbio_ctypes.library_path()))
    path = tempfile.mkdtemp(prefix="conform-py-", dir=parent)
    open(os.path.join(path, ".cistern-mount"), "w").close()
    yield path
    shutil.rmtree(path)
