"""The example, run as its users do."""

import pytest

pytest.importorskip("matplotlib", reason="the example draws")
pytest.importorskip("sklearn", reason="the example reads scikit-learn's digits")

from beside import torch  # noqa: F401


def test_torch_optimizers(tmp_path, capsys):
    from fastopt.examples import torch_optimizers

    torch_optimizers.main(["--quick", "--output", str(tmp_path / "runs.png")])
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if "µs" in line}
    assert set(rows) == set(torch_optimizers.STYLES)
    assert rows["torch.optim.AdamW"][1:3] == rows["fastopt.torch.AdamW"][1:3]  # loss and accuracy
    assert (tmp_path / "runs.png").stat().st_size > 10_000
