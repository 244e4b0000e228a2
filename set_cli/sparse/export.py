"""A copy of a model in torch's own operations, for programs that run without this package (ONNX, TorchScript)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from set_cli.sparse.convert import replace_sparse
from set_cli.sparse.linear import SparseLinear


def to_exportable(model: nn.Module, form: str = "dense") -> nn.Module:
    """A copy of the model for inference whose sparse layers are in torch's own operations; the model stays as it is.

    form  'dense': each is an nn.Linear with zeros, n_in * n_out numbers; fastest where the runtime multiplies
          matrices well
          'gather': each reads its inputs by index, three numbers a connection; takes n_batch * connections memory

    Raises ValueError for another form, and for a subclass of SparseLinear.
    """
    made = {"dense": SparseLinear.to_dense, "gather": GatheredLinear}
    if form not in made:
        raise ValueError(f"form: expected 'dense' or 'gather', got {form!r}")
    return replace_sparse(copy.deepcopy(model), made[form]).eval()


class GatheredLinear(nn.Module):
    """y = x @ W + bias, where every connection reads its input and adds to its output; (..., n_in) to (..., n_out)."""

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        cells = layer.device_pattern().cells
        self.inputs = nn.Buffer(torch.div(cells, self.out_features, rounding_mode="floor"))
        self.outputs = nn.Buffer(cells % self.out_features)
        self.weight = nn.Parameter(layer.weight.detach().clone())
        bias = self.weight.new_zeros(self.out_features) if layer.bias is None else layer.bias.detach().clone()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        products = x.index_select(-1, self.inputs) * self.weight
        biases = torch.zeros_like(x[..., :1]) + self.bias
        return biases.index_add(-1, self.outputs, products)
