"""How many bytes a product or a step moves at least. Standard library only.

A connection reads a row of the batch; what lies in the cache is not taken off, so a share of the bandwidth may exceed 1
where the rows fit.
"""

from __future__ import annotations

WORD = 4  # bytes of an index, an order, a float32 value or gradient


def spmm_bytes(n_in: int, n_out: int, connections: int, batch: int, value: int = WORD) -> int:
    """Rows, index, order and value of every connection; every output written."""
    return connections * (batch * value + 3 * WORD) + n_out * batch * value


def spmm_t_bytes(n_in: int, n_out: int, connections: int, batch: int, value: int = WORD) -> int:
    """Rows, index and value of every connection; every input's gradient written."""
    return connections * (batch * value + 2 * WORD) + n_in * batch * value


def sddmm_bytes(n_in: int, n_out: int, connections: int, batch: int, value: int = WORD) -> int:
    """Rows and index of every connection, its gradient written; every input read."""
    return connections * (batch * value + 2 * WORD) + n_in * batch * value


def gradients_bytes(n_in: int, n_out: int, connections: int, batch: int, value: int = WORD) -> int:
    """Rows, index, value and gradient of every connection; inputs read, their gradients written; the bias's sum."""
    return connections * (batch * value + 3 * WORD) + (2 * n_in + n_out) * batch * value


def step_bytes(layers: list[tuple[int, int, int]], batch: int, value: int = WORD) -> int:
    """Of a training step of sparse layers (n_in, n_out, connections): forward, backward, update, activations once."""
    connections = sum(layer[2] for layer in layers)
    forward = backward = connections * (batch * value + 3 * WORD)
    update = connections * 5 * WORD
    neurons = layers[0][0] + sum(layer[1] for layer in layers)
    return forward + backward + update + neurons * batch * value
