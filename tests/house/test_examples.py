"""The examples, run as their users do."""

import re
import subprocess
import sys

import pytest
from variants import using

import fastopt as fo

pytest.importorskip("sklearn.datasets")
pytest.importorskip("matplotlib")

SLOW = pytest.mark.slow  # a second or two each


def test_breast_cancer(tmp_path, capsys, monkeypatch):
    from fastopt.examples import breast_cancer

    monkeypatch.chdir(tmp_path)
    breast_cancer.main([])
    printed = capsys.readouterr().out
    own, peer = (
        re.search(rf"^{name}, \w+ +([\d.]+) +([\d.]+)%", printed, re.MULTILINE).groups()
        for name in ("fastopt", "scikit-learn")
    )
    assert float(own[0]) < 0.15
    assert float(own[1]) > 94
    assert float(own[1]) > float(peer[1]) - 2
    assert str(tmp_path / "breast_cancer.png") in printed
    assert (tmp_path / "breast_cancer.png").read_bytes().startswith(b"\x89PNG")


@SLOW
def test_initialization(tmp_path, capsys):
    from fastopt.examples import initialization

    initialization.main(["--output", str(tmp_path / "picture.png")])
    printed = capsys.readouterr().out
    row = r"^(sigmoid|tanh|ReLU) +(too small|too large|Xavier|He)\b.*?(batch norm)? +(\S+) +(\S+)$"
    spreads = {
        (activation, begin, bool(norm)): (float(outputs), float(gradients))
        for activation, begin, norm, outputs, gradients in re.findall(row, printed, re.MULTILINE)
    }
    assert len(spreads) == 24
    for (activation, begin, norm), (outputs, gradients) in spreads.items():
        if norm:  # whatever the beginning, nothing vanishes and nothing explodes
            assert 0.1 < outputs < 1
            assert 0.5 < gradients < 100
        elif activation == "sigmoid" or begin == "too small":
            assert gradients < 1e-6
    assert max(spreads["tanh", "too small", False][0], spreads["ReLU", "too small", False][0]) < 1e-12
    assert min(spreads["ReLU", "too large", False]) > 100
    assert spreads["tanh", "too large", False][1] > 10
    assert all(0.1 < value < 10 for value in spreads["tanh", "Xavier", False])
    assert all(0.1 < value < 10 for value in spreads["ReLU", "He", False])
    assert max(spreads["ReLU", "Xavier", False]) < 0.1
    ends = dict(re.findall(r"^(.*clipped.*?)  +\S+  (.*)$", printed, re.MULTILINE))
    assert float(ends["He: N(0, 2/m), not clipped"]) < 1
    assert ends["too large: N(0, 0.2²), not clipped"].startswith("overflows in step")
    assert float(ends["too large: N(0, 0.2²), clipped to norm 1"]) < 2
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@SLOW
def test_computational_graph(tmp_path, capsys):
    from fastopt.examples import computational_graph

    computational_graph.main(["--output", str(tmp_path / "picture.png")])
    printed = capsys.readouterr().out
    assert re.search(r"^L .* -0.00037018373$", printed, re.MULTILINE)
    assert re.search(r"^W +3 +-0.00037018373$", printed, re.MULTILINE)
    times = {
        (int(inputs), int(outputs)): float(forward) / float(backward)
        for inputs, outputs, forward, backward in re.findall(
            r"^inputs +(\d+), outputs +(\d+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE
        )
    }
    assert len(times) == 11
    assert times[32, 1] > 4 * times[1, 1]
    assert times[8, 1] > 4 * times[8, 32]
    first, last = re.search(r"^Hessian (\S+) to (\S+),", printed, re.MULTILINE).groups()
    assert 1 < float(first) < float(last)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@SLOW
def test_state_formats(tmp_path, capsys):
    from fastopt.examples import state_formats

    state_formats.main(["--output", str(tmp_path / "picture.png"), "--quick"])
    rows = re.findall(r"^(\w+) +([\d.]+) +([\d.]+) +([\d.]+) MiB", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, *_ in rows] == list(state_formats.FORMATS)
    losses = [float(loss) for _, loss, _, _ in rows]
    assert max(losses) < 1.05 * min(losses)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # 8 seconds, most of them the peer's
def test_digits(tmp_path, capsys):
    from fastopt.examples import digits

    picture = tmp_path / "read.png"
    digits.main(["--output", str(picture), "--seeds", "1"])
    printed = capsys.readouterr().out
    own, peer = (
        float(re.search(rf"^{name} +([\d.]+)%", printed, re.MULTILINE).group(1)) for name in ("fastopt", "scikit-learn")
    )
    assert own > 97
    assert own > peer - 1
    assert str(picture) in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


class TestFingerprint:
    """A fixed short training gives the recorded bits, whatever computes it."""

    @pytest.mark.parametrize(
        "variant",
        [
            *(("c", isa, threads) for isa in fo.instruction_sets() for threads in (1, 2, 7)),
            ("numba", None, 1),
            pytest.param(("numpy", None, 1), marks=pytest.mark.slow),  # 3 seconds
        ],
        ids=str,
    )
    def test_it_is_the_recorded_one(self, variant):
        from fastopt.examples import digits

        with using(variant):
            assert digits.fingerprint() == digits.FINGERPRINT

    def test_after_a_resume(self, tmp_path):
        from fastopt.examples import digits

        assert digits.fingerprint(tmp_path / "after an epoch.npz") == digits.FINGERPRINT

    @pytest.mark.usefixtures("exact_products")
    def test_the_command(self, capsys, monkeypatch):
        from fastopt.examples import digits

        fo.set_matmul("blas")  # it is of exact products in any case
        digits.main(["--fingerprint"])
        assert fo.get_matmul() == "blas"
        printed = capsys.readouterr().out
        assert printed.startswith(f"{digits.FINGERPRINT}\n")
        assert all(where in printed for where in digits.SEEN)
        monkeypatch.setattr(digits, "FINGERPRINT", "0" * 64)
        with pytest.raises(SystemExit, match=r"another than the recorded one, which is 0{64}"):
            digits.main(["--fingerprint"])


@SLOW
def test_siamese(tmp_path, capsys):
    from fastopt.examples import siamese

    siamese.main(["--output", str(tmp_path / "picture.png")])
    printed = capsys.readouterr().out
    assert float(re.search(r"of their own: ([\d.]+)%", printed).group(1)) > 88
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@SLOW
def test_large_batch(tmp_path, capsys):
    from fastopt.examples import large_batch

    picture = tmp_path / "batches.png"
    large_batch.main(["--output", str(picture), "--quick"])
    printed = capsys.readouterr().out
    for name in large_batch.OPTIMIZERS:
        small, whole = re.search(rf"^{name} +([\d.]+)% .* ([\d.]+)% ", printed, re.MULTILINE).groups()
        assert float(small) > 90, name  # in 116 steps
        assert 20 < float(whole) < float(small), name  # in 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("example", ["breast_cancer", "digits", "large_batch", "siamese"])
def test_without_its_libraries(tmp_path, example):
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        f"from fastopt.examples.{example} import main\n"
        "main(['--output', 'picture.png'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this example needs sklearn: pip install fastopt[examples]" in done.stderr
    assert not list(tmp_path.iterdir())


@SLOW
def test_lr_range_test(tmp_path, capsys, monkeypatch):
    from fastopt.examples import lr_range_test

    monkeypatch.chdir(tmp_path)
    lr_range_test.main([])
    printed = capsys.readouterr().out
    found = float(re.search(r"steepest descent at ([\d.]+)", printed).group(1))
    assert 0.02 < found < 0.3  # of the powers of ten, 0.1 is the best
    accuracy = {
        name: float(re.search(rf"^{name} .* ([\d.]+)%", printed, re.MULTILINE).group(1))
        for name in ("a hundredth of it", "suggested", "ten times it")
    }
    assert accuracy["suggested"] > 96
    assert accuracy["suggested"] > accuracy["a hundredth of it"] + 5
    assert accuracy["suggested"] > accuracy["ten times it"] + 20
    assert str(tmp_path / "lr_range_test.png") in printed
    assert (tmp_path / "lr_range_test.png").read_bytes().startswith(b"\x89PNG")
