"""The callbacks of docs/python.md in the trainers they are for: layers evolve, and a training resumes bit for bit."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli.sparse import Evolution, SparseLinear

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore")]  # slow to import; their own warnings
ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
ROWS, LABELS = torch.randn(64, 20, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
STEPS = 12


def installed(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed here: its callback is not tried")


def callback(package: ModuleType, every: int | None = None) -> Any:
    """The page's callback for this package, evolving more often; its evolutions are in `evolved`."""
    (block,) = re.findall(rf"^```python\n(import {package.__name__}\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    block = block if every is None else block.replace("every=100", f"every={every}")
    names: dict[str, Any] = {"Evolution": Counting}
    exec(compile(block, "docs/python.md", "exec"), names)
    return names["Evolve"]()


class Counting(Evolution):
    """Notes the steps after which layers evolved."""

    def evolve(self, *, refill: bool = True) -> Any:
        self.evolved = [*getattr(self, "evolved", []), self.steps]
        return super().evolve(refill=refill)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = SparseLinear(20, 30, density=0.2, seed=0)
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.0), nn.Linear(30, 3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def moved(model: nn.Module) -> bool:
    """Whether the first layer has other connections than at the start."""
    indices = next(m for m in model.modules() if isinstance(m, SparseLinear)).indices
    return not torch.equal(indices, network().layers[0].indices)  # type: ignore[arg-type]


def test_skorch(tmp_path: Path) -> None:
    skorch = installed("skorch")
    checkpoint = skorch.callbacks.Checkpoint(dirname=tmp_path, monitor=None)

    def net(*callbacks: Any, epochs: int) -> Any:
        return skorch.NeuralNetClassifier(
            network(),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.AdamW,
            lr=0.01,
            batch_size=16,
            max_epochs=epochs,
            train_split=None,
            verbose=0,
            callbacks=list(callbacks),
        )

    x, y = ROWS.numpy(), LABELS.numpy()
    evolve = callback(skorch)
    whole = net(evolve, epochs=4).fit(x, y)
    assert evolve.evolution.evolved == [1, 2, 3]
    assert moved(whole.module_)
    net(callback(skorch), checkpoint, epochs=2).fit(x, y)
    resumed = net(callback(skorch), skorch.callbacks.LoadInitState(checkpoint), epochs=2).fit(x, y)
    assert len(resumed.history) == 4
    assert_same(whole.module_, resumed.module_)
    in_parts = net(callback(skorch), epochs=2).fit(x, y).partial_fit(x, y)
    assert_same(whole.module_, in_parts.module_)


@pytest.mark.parametrize("added_up", [1, 2])
def test_lightning(tmp_path: Path, added_up: int) -> None:
    lightning = installed("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    def fit(steps: int, *callbacks: Any, resume: Path | None = None) -> Any:
        data = torch.utils.data.TensorDataset(ROWS, LABELS)
        model = Module()
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            accumulate_grad_batches=added_up,
            callbacks=list(callbacks),
        )
        trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=16), ckpt_path=resume)
        return model

    evolve = callback(lightning, every=3)
    whole = fit(STEPS, evolve)
    assert evolve.evolution.evolved == [3, 6, 9, 12]
    assert moved(whole)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "kept", every_n_train_steps=8)
    fit(8, callback(lightning, every=3), keep)  # whole epochs: within one, Lightning begins the rows anew
    resumed = fit(STEPS, callback(lightning, every=3), resume=tmp_path / "kept.ckpt")
    assert_same(whole, resumed)


class WithLoss(Network):
    """What transformers' Trainer takes."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = super().forward(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits} if labels is not None else logits


@pytest.mark.parametrize("added_up", [1, 2])
def test_transformers(tmp_path: Path, added_up: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seen from the root of the repository, the folder datasets/ looks like Hugging Face's package of that name.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if Path(entry).resolve() != ROOT])
    transformers = installed("transformers")
    installed("accelerate")

    def train(steps: int, evolve: Any, resume: bool = False) -> Any:
        torch.manual_seed(0)
        arguments = transformers.TrainingArguments(
            str(tmp_path),
            use_cpu=True,
            max_steps=steps,
            save_steps=6,
            learning_rate=0.01,
            lr_scheduler_type="constant",
            per_device_train_batch_size=8,
            gradient_accumulation_steps=added_up,
            report_to=[],
            disable_tqdm=True,
        )
        data = [{"x": row, "labels": label} for row, label in zip(ROWS, LABELS, strict=True)]
        trainer = transformers.Trainer(WithLoss(), arguments, train_dataset=data, callbacks=[evolve])
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6") if resume else None)
        return trainer.model

    evolve = callback(transformers, every=3)
    whole = train(STEPS, evolve)
    assert evolve.evolution.evolved == [3, 6, 9, 12]
    assert moved(whole)
    again = callback(transformers, every=3)
    assert_same(whole, train(STEPS, again, resume=True))
    assert again.evolution.evolved == [9, 12]
    assert np.isfinite(whole(ROWS).detach().numpy()).all()


def test_accelerate(tmp_path: Path) -> None:
    accelerate = installed("accelerate")

    def start() -> tuple[Any, Any, Any, Counting]:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = network()
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.01))
        evolution = Counting(model, optimizer, every=2)
        accelerator.register_for_checkpointing(evolution)
        return accelerator, model, optimizer, evolution

    def train(accelerator: Any, model: Any, optimizer: Any, evolution: Counting) -> None:
        for x, y in zip(ROWS.view(8, 8, 20), LABELS.view(8, 8), strict=True):
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                evolution.step()

    whole = start()
    train(*whole)
    whole[0].save_state(str(tmp_path))
    train(*whole)
    assert whole[3].evolved == [2, 4, 6, 8]
    resumed = start()
    resumed[0].load_state(str(tmp_path))
    train(*resumed)
    assert resumed[3].evolved == [6, 8]
    assert_same(whole[1], resumed[1])


def test_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed here")
    model, other = network(), network()
    for layer in model.modules():
        if isinstance(layer, SparseLinear):
            layer.evolve(0.4, seed=3)
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    safetensors.load_model(other, str(tmp_path / "model.safetensors"))
    assert torch.equal(other(ROWS), model(ROWS))


def test_save_pretrained(tmp_path: Path) -> None:
    transformers = installed("transformers")

    class Settings(transformers.PretrainedConfig):  # type: ignore[misc, name-defined]
        model_type = "sparse"

    class Model(transformers.PreTrainedModel):  # type: ignore[misc, name-defined]
        config_class = Settings

        def __init__(self, config: Settings) -> None:
            super().__init__(config)
            self.layer = SparseLinear(20, 30, epsilon=4, seed=0)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y

    model = Model(Settings())
    model.layer.evolve(0.4, seed=3)
    model.save_pretrained(tmp_path)
    assert torch.equal(Model.from_pretrained(tmp_path)(ROWS), model(ROWS))
