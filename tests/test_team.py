"""The threads that help: others at work beside them, forks, ends of processes. Their numbers: test_native.py."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from set_cli import native
from set_cli.bench.beside import neighbours
from set_cli.models.stack import SparseSequential
from set_cli.sparse import SparseLinear
from tests.conftest import run_python

pytestmark = [
    pytest.mark.skipif(native.core is None, reason=f"no compiled kernels here: {native.missing}"),
    pytest.mark.usefixtures("two_threads"),
]

NETWORK = """
import os, threading
import torch
from set_cli import native
from set_cli.models.activations import ReLU
from set_cli.models.stack import SparseSequential
from set_cli.sparse import SparseLinear

native.WORK_PER_THREAD = 1
torch.set_num_threads(3)
torch.manual_seed(0)
x = torch.randn(40, 300)
stack = SparseSequential(
    SparseLinear(300, 200, epsilon=10, engine="native", seed=1),
    ReLU(fused=True),
    SparseLinear(200, 100, epsilon=10, engine="native", seed=2),
)

def gradients():
    stack.zero_grad()
    stack(x).square().sum().backward()
    return [p.grad.clone() for p in stack.parameters()]

def same(a, b):
    return all(torch.equal(*pair) for pair in zip(a, b, strict=True))

first = gradients()
"""


def gradients(stack: SparseSequential, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(stack(x).square().sum(), list(stack.parameters())))


def network() -> tuple[SparseSequential, Tensor]:
    widths = (300, 400, 200)
    layers = [
        SparseLinear(n_in, n_out, epsilon=10, engine="native", seed=i)
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths))
    ]
    return SparseSequential(*layers), torch.randn(60, 300, generator=torch.Generator().manual_seed(0))


def test_other_programs_on_the_cores_change_no_bit() -> None:
    stack, x = network()
    torch.set_num_threads(1)
    expected = gradients(stack, x)
    with neighbours(4) as others, others.computing():
        for threads in (2, 3, 7) * 20:
            torch.set_num_threads(threads)
            assert all(map(torch.equal, gradients(stack, x), expected))


def test_many_callers_in_one_process_have_their_own_results() -> None:
    expected, wrong = {}, []
    works = {}
    for caller in range(6):
        stack, x = network()
        works[caller] = stack, x + caller
        expected[caller] = gradients(*works[caller])

    def work(caller: int) -> None:
        for _ in range(30):
            if not all(map(torch.equal, gradients(*works[caller]), expected[caller])):
                wrong.append(caller)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "ending",
    [
        # A child has none of its parent's threads; its own child neither.
        """
for depth in range(3):
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        break
    assert same(gradients(), first)
assert same(gradients(), first)
os._exit(0)
""",
        # A thread forks while another one computes.
        """
going = threading.Event()
def work():
    while not going.is_set():
        gradients_of_others = torch.autograd.grad(stack(x).sum(), list(stack.parameters()))
other = threading.Thread(target=work)
other.start()
for _ in range(20):
    pid = os.fork()
    if not pid:
        found = torch.autograd.grad(stack(x).square().sum(), list(stack.parameters()))
        os._exit(0 if same(found, first) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
going.set()
other.join()
""",
        # The interpreter ends while helpers still look for work.
        """
assert same(gradients(), first)
""",
    ],
    ids=["forks", "forks beside work", "exit"],
)
def test_processes_fork_and_end(ending: str, tmp_path: Path) -> None:
    result = run_python("-c", NETWORK + ending, folder=tmp_path)
    assert result.returncode == 0, result.stderr
