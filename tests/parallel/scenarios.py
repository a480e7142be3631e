"""What processes train together: each is given a communicator, or None, and answers with what must be the same."""

import os
import signal
import tempfile
import time

import numpy as np

import fastopt as fo

SHARDS = 4  # as many as the most processes


def data(rows=205):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, 6)).astype(np.float32)
    return X, rng.integers(0, 3, rows), rng.random(rows)


def network(dropout=0.3, width=16):
    nn = fo.nn
    layers = [nn.Linear(6, width), nn.BatchNorm(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3)]
    return nn.Sequential(*layers, rng=0)


def results(model, history):
    lists = {name: list(values) for name, values in dict(history).items()}
    lists["seconds"] = len(lists["seconds"])
    return [model.fingerprint(), lists, history.stopped]


def fitted(comm, optimizer="Adam", shards=SHARDS, model=None, weighted=False, options=None, epochs=3, **arguments):
    X, y, weight = data()
    model = model or network()
    made = getattr(fo.optim, optimizer)(model.parameters(), lr=0.01, **(options or {}))
    given = {"validation": 0.2, "batch_size": 64, "rng": 0, "loss": "cross_entropy"} | arguments
    if weighted:
        given["sample_weight"] = weight
    history = fo.fit(model, X, y, optimizer=made, epochs=epochs, comm=comm, shards=shards, **given)
    found = {
        name: {key: array.tolist() for key, array in of.items()} for name, of in made.state_dict()["state"].items()
    }
    return [*results(model, history), made.step_count, found]


def of_parts(comm, rows=205, **arguments):
    """Each process has its part of the data only."""
    X, y, weight = data(rows)
    own = fo.parallel.local_rows(rows, comm, SHARDS)
    model = network()
    made = fo.optim.Adam(model.parameters(), lr=0.01)
    given = {"validation": (X[:40], y[:40]), "batch_size": 32, "rng": 0, "loss": "cross_entropy", "epochs": 2}
    given |= {"sample_weight": weight[own], "total_rows": rows, "comm": comm, "shards": SHARDS} | arguments
    return results(model, fo.fit(model, X[own], y[own], optimizer=made, **given))


def of_a_file(comm):
    X, y, _ = data()
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/X.npy", X)
        mapped = np.load(f"{folder}/X.npy", mmap_mode="r")
        model = network()
        made = fo.optim.Adam(model.parameters(), lr=0.01)
        history = fo.fit(
            model, mapped, y, optimizer=made, epochs=1, loss="cross_entropy", rng=0, comm=comm, shards=SHARDS
        )
    return results(model, history)


def stepped(comm, loss="cross_entropy", shards=SHARDS, **options):
    X, y, weight = data()
    model = network()
    step = fo.TrainingStep(
        model, fo.optim.LAMB(model.parameters(), lr=0.01), loss=loss, comm=comm, shards=shards, **options
    )
    losses = []
    for k in range(8):
        rows = slice(k, k + (64 if k % 3 else 50))
        losses.append(step(X[rows], y[rows], weight[rows] if k % 2 else None))
    return [model.fingerprint(), losses]


def stopped_early(comm):
    stopping = fo.EarlyStopping(patience=1, monitor="val_loss", min_delta=10.0)
    return fitted(comm, callbacks=[stopping], epochs=9)


def skipped(comm):
    X, y, _ = data()
    X[100] = 3e38
    model = fo.nn.Linear(6, 3, rng=0)
    made = fo.optim.LAMB(model.parameters(), lr=0.01)
    given = {"batch_size": 64, "shuffle": False, "loss": "mse", "on_nonfinite": "skip"}
    history = fo.fit(model, X, np.eye(3)[y], optimizer=made, epochs=2, comm=comm, shards=SHARDS, **given)
    assert made.skipped_steps == 2
    return results(model, history)


def thawed(comm):
    """A layer that is frozen in the first epoch, and trained in the others."""
    model = network()
    model[0].freeze()
    return fitted(comm, model=model, callbacks=[{"epoch": lambda run: model[0].unfreeze()}])


SAME = {
    "batch norm, dropout, an uneven last batch": fitted,
    "more shards": lambda comm: fitted(comm, shards=7),
    "last batch smaller than shards": lambda comm: fitted(
        comm, shards=7, model=network_without_statistics(), batch_size=80
    ),
    "accumulation, clipping": lambda comm: fitted(comm, accumulate=2, clip_norm=0.1, grad_norm=True),
    "clipping of each": lambda comm: fitted(comm, clip_norm_per_tensor=0.05, clip_value=0.01),
    "LAMB, weights of rows": lambda comm: fitted(comm, "LAMB", weighted=True),
    "LARS, wide": lambda comm: fitted(comm, "LARS", model=network(width=700), epochs=2),
    "momentum, an average": lambda comm: fitted(comm, "SGD", ema=0.9, options={"momentum": 0.9}, drop_last=True),
    "weights of classes": lambda comm: fitted(comm, loss=fo.losses.CrossEntropy(weight=[1, 2, 3])),
    "two points": lambda comm: fitted(comm, "AdamWScheduleFree"),
    "a layer by itself": lambda comm: fitted(comm, model=fo.nn.Linear(6, 3, rng=0), weighted=True),
    "float64, wide": lambda comm: fitted(comm, "AdamW", model=wide_in_double(), epochs=1),
    "stopped early": stopped_early,
    "a layer that is frozen at first": thawed,
    "steps that are left out": skipped,
    "parts of the data": of_parts,
    "parts of the data, in whole batches": lambda comm: of_parts(comm, drop_last=True, shuffle=False),
    "parts of the data, one batch": lambda comm: of_parts(comm, batch_size=None),
    "a file": of_a_file,
    "steps": stepped,
    "steps with weights of classes, clipped": lambda comm: stepped(
        comm, fo.losses.CrossEntropy(weight=[1, 2, 3]), clip_norm=0.1
    ),
}


SMALL = ["batch norm, dropout, an uneven last batch", "accumulation, clipping", "LAMB, weights of rows", "steps"]


def network_without_statistics():
    return fo.nn.Sequential(fo.nn.Linear(6, 16), fo.nn.Tanh(), fo.nn.Dropout(0.2), fo.nn.Linear(16, 3), rng=0)


def wide_in_double():
    return fo.nn.Sequential(fo.nn.Linear(6, 3000), fo.nn.Tanh(), fo.nn.Linear(3000, 3), rng=0, dtype=np.float64)


# ---- what ends all of them ------------------------------------------------------------------------


class RaisesInOne:
    """A layer of the user's own."""

    def __init__(self, rank):
        self.rank, self.calls = rank, 0

    def forward(self, x):
        self.calls += 1
        if self.rank == 1 and self.calls == 9:
            raise OverflowError("the layer's own")
        return x.copy()

    def backward(self, dy):
        return dy.copy()


def in_a_layer(comm):
    model = fo.nn.Sequential(fo.nn.Linear(6, 3, rng=0), RaisesInOne(comm.Get_rank()))
    fitted(comm, model=model)


def in_a_callback(comm):
    def callback(run):
        if comm.Get_rank() == 1 and run.epoch == 2:
            raise KeyError("the callback's own")

    fitted(comm, callbacks=[{"epoch": callback}])


def at_a_batch(comm):
    def callback(run):
        if comm.Get_rank() == 1 and run.batch == 2:
            raise KeyError("the batch's own")

    fitted(comm, callbacks=[{"batch": callback}])


def other_data(comm):
    X, y, _ = data()
    X[17, 3] += comm.Get_rank() == 1
    model = network()
    fo.fit(model, X, y, optimizer=fo.optim.SGD(model.parameters()), epochs=1, loss="cross_entropy", comm=comm)


def other_arguments(comm):
    fitted(comm, options={"weight_decay": 0.1 * comm.Get_rank()})


def other_weights(comm):
    model = network()
    model.parameters()["0.weight"][0, 0] += comm.Get_rank()
    fitted(comm, model=model)


def bad_data_in_one(comm):
    X, y, _ = data()
    if comm.Get_rank() == 1:
        X[3, 3] = np.nan
    model = network()
    fo.fit(model, X, y, optimizer=fo.optim.SGD(model.parameters()), epochs=1, loss="cross_entropy", comm=comm)


def not_finite(comm):
    fitted(comm, "SGD", options={"weight_decay": 1e30})


def too_few_shards(comm):
    fitted(comm, shards=comm.Get_size() - 1)


def other_batches(comm):
    X, y, _ = data()
    model = network()
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters()), loss="cross_entropy", comm=comm)
    step(X[comm.Get_rank() :][:60], y[comm.Get_rank() :][:60])


def another_shape(comm):
    X, y, _ = data()
    model = network()
    step = fo.TrainingStep(model, fo.optim.SGD(model.parameters()), loss="cross_entropy", comm=comm)
    step(X[:60], y[:60])
    step(X[:50], y[:50])
    rows = 60 - 10 * comm.Get_rank()
    step(X[:rows], y[:rows])


def sent(comm):
    """What a process sends in a step, by the bytes of the parameters, and how much of the state it holds."""
    X, y, _ = data()
    model = fo.nn.Sequential(fo.nn.Linear(6, 9000), fo.nn.Tanh(), fo.nn.Linear(9000, 3), rng=0)
    adam = fo.optim.Adam(model.parameters())
    step = fo.TrainingStep(model, adam, loss="cross_entropy", comm=comm, shards=2 * comm.Get_size())
    step(X, y)
    fo.parallel.traffic.reset()
    step(X, y)
    size = sum(param.nbytes for param in model.parameters().values())
    sent = fo.parallel.traffic.bytes / size
    held = sum(np.count_nonzero(of["exp_avg_sq"]) for of in adam._state.values())
    whole = sum(np.count_nonzero(of["exp_avg_sq"]) for of in adam.state.values())
    return [sent, held / whole]


def parts_that_do_not_fit(comm):
    X, y, _ = data()
    model = network()
    given = {"epochs": 1, "loss": "cross_entropy", "comm": comm, "total_rows": 205}
    fo.fit(model, X[:70], y[:70], optimizer=fo.optim.SGD(model.parameters()), **given)


ENDED = {f.__name__: f for f in (
    in_a_layer, in_a_callback, at_a_batch, other_data, other_arguments, other_weights, bad_data_in_one, not_finite,
    too_few_shards, other_batches, parts_that_do_not_fit, another_shape,
)}  # fmt: skip


def interrupted(comm):
    """Ctrl-C in one process."""

    def callback(run):
        if comm.Get_rank() == 1 and run.epoch == 1 and run.batch == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    return fitted(comm, callbacks=[{"batch": callback}])


def stopped_by_one(comm):
    def callback(run):
        if comm.Get_rank() == 1 and run.epoch == 2:
            run.stop("the second has seen enough")

    return fitted(comm, callbacks=[{"epoch": callback}])


def died(comm):
    def callback(run):
        if comm.Get_rank() == 1 and run.epoch == 1:
            os._exit(7)

    fitted(comm, callbacks=[{"epoch": callback}])


def broken(comm):
    """An error where the others already wait for what is to be sent."""
    from fastopt.parallel.team import Team

    deal, left = Team.deal, [3]

    def failing(*arguments):
        left[0] -= 1
        if comm.Get_rank() == 1 and not left[0]:
            raise MemoryError("no memory is left")
        deal(*arguments)

    Team.deal = failing
    fitted(comm)
