"""What is said of an attribute that an object does not have."""

from typing import Any

# What other libraries do by a method, or not at all, and is done here by something else.
DONE_OTHERWISE = {
    **dict.fromkeys(["add", "append"], "make another by Sequential(*model.layers, layer)"),
    **dict.fromkeys(["compile", "fit"], "fo.fit(model, X, y, optimizer=..., epochs=...) trains it"),
    **dict.fromkeys(["cpu", "cuda", "to"], "everything runs on the CPU; dtype= is an argument of Sequential"),
    **dict.fromkeys(["evaluate", "score"], "compare predict(X) with the targets, or give validation= to fo.fit"),
    **dict.fromkeys(["get_weights", "named_parameters", "weights"], "parameters() is a dict of them"),
    **dict.fromkeys(["load", "load_weights"], "model.load_state_dict(fo.load(path))"),
    **dict.fromkeys(["save", "save_weights"], "fo.save(path, model.state_dict())"),
    "step": "only optimizers have a step: opt.step(model.gradients())",
    "zero_grad": "backward writes the gradients anew, there is nothing to set to zero",
}


class UnknownAttribute(AttributeError):
    """There is no such attribute. What was meant is looked for when it is asked for: `hasattr` does not."""

    def __init__(self, thing: Any, name: str):
        super().__init__(thing, name)

    def __str__(self) -> str:
        from difflib import get_close_matches  # takes longer to load than all else here

        thing, name = self.args
        if name in DONE_OTHERWISE:
            return f"{type(thing).__name__} has no attribute {name!r}: {DONE_OTHERWISE[name]}"
        public = [known for known in {*dir(type(thing)), *vars(thing)} if not known.startswith("_")]
        meant = [] if name.startswith("_") else get_close_matches(name, public, 1)
        return f"{type(thing).__name__} has no attribute {name!r}" + (f": did you mean {meant[0]!r}?" if meant else "")
