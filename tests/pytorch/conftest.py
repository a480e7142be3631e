import sys

import pytest


@pytest.fixture(autouse=True)
def _muon_of_full_precision(monkeypatch):
    """PyTorch's Muon iterates in bfloat16; to be compared with, it does so in the parameters' type."""
    muon = sys.modules.get("torch.optim._muon")
    if muon is None:
        return

    def orthogonal(grad, coefficients, steps, eps):
        a, b, c = coefficients
        x = grad.T if grad.size(0) > grad.size(1) else grad
        x = x / x.norm().clamp(min=eps)
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
        return x.T if grad.size(0) > grad.size(1) else x

    monkeypatch.setattr(muon, "_zeropower_via_newtonschulz", orthogonal)
