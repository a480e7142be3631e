"""One small run in each of the frameworks that drive an optimizer themselves, beside PyTorch's own optimizer."""

import pytest
from beside import ft, torch

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, of what they deprecate


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(32, 5, generator=generator), torch.randint(0, 3, (32,), generator=generator)


def compare(train):
    ours, theirs = (train(of.AdamW) for of in (ft, torch.optim))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert not torch.equal(ours[0].weight, net()[0].weight)


def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason="a run in accelerate, which is not here")

    def train(optimizer_class):
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = net()
        optimizer = optimizer_class(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=8)
        prepared, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
        for _ in range(3):
            for x, y in loader:
                with accelerator.accumulate(prepared):
                    accelerator.backward(torch.nn.functional.cross_entropy(prepared(x), y))
                    accelerator.clip_grad_norm_(prepared.parameters(), 0.5)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
        return model

    compare(train)


def test_lightning(tmp_path):
    lightning = pytest.importorskip("lightning", reason="a run in Lightning, which is not here")

    def train(optimizer_class):
        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = net()

            def training_step(self, batch, _):
                return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

            def configure_optimizers(self):
                optimizer = optimizer_class(self.parameters(), lr=0.01)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=8)
        module = Module()
        for epochs, resumed in ((2, None), (4, tmp_path / "last.ckpt")):
            trainer = lightning.Trainer(
                max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, gradient_clip_val=0.5,
                enable_checkpointing=False, enable_model_summary=False, default_root_dir=tmp_path,
            )  # fmt: skip
            trainer.fit(module, loader, ckpt_path=resumed)
            trainer.save_checkpoint(tmp_path / "last.ckpt")
        return module.net

    compare(train)


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="a run in transformers, which is not here")
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate, which is not here")

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, labels):
            return {"loss": torch.nn.functional.cross_entropy(self.net(x), labels)}

    def train(optimizer_class):
        model = Model()
        rows = [{"x": x, "labels": y} for x, y in zip(*data(), strict=True)]
        arguments = transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=3, per_device_train_batch_size=8, use_cpu=True, report_to=[],
            save_strategy="no", logging_strategy="no", disable_tqdm=True, learning_rate=0.01,
        )  # fmt: skip
        given = (optimizer_class, {"lr": 0.01, "weight_decay": 0.1})
        transformers.Trainer(model, arguments, train_dataset=rows, optimizer_cls_and_kwargs=given).train()
        return model.net

    compare(train)
