import gc
import signal
import sys
import zlib

import numpy as np
import pytest
from helpers import BACKENDS, use

import fastopt as fo
from fastopt import config

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in what it runs in the background


def pytest_collection_finish(session):
    """What has been imported and collected stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _restore_configuration():
    """Every test leaves backend, instruction set and threads as it found them, and no figures."""
    backend, isa = fo.get_backend(), fo.get_instruction_set()
    threads = config.lib.fastopt_threads_get() if config.lib else 1
    yield
    fo.set_backend(backend)
    if isa:
        fo.set_instruction_set(isa)
    fo.set_num_threads(threads)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Each backend of this installation in turn, doing the work."""
    use(request.param, threads=2)
    return request.param


@pytest.fixture
def exact_products():
    """Also where they are not the default, as on a CPU without fused multiply-adds."""
    before = fo.get_matmul()
    fo.set_matmul("exact")
    yield
    fo.set_matmul(before)


@pytest.fixture
def rng(request):
    """Random numbers, the same in every run, others in every test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
