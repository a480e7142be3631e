"""What is sent, and how long that takes."""


class Traffic:
    """What this process has sent to others, and waited for them, since it began or since `reset`.

    Attributes
    ----------
    bytes : int
        Sent by this process, where a collective takes the fewest that it can.
    seconds : float
        Within collectives, sending and receiving.
    waited : float
        Spent waiting, where this process was ready before others.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again from 0."""
        self.bytes, self.seconds, self.waited = 0, 0.0, 0.0

    def __repr__(self) -> str:
        return f"Traffic({self.bytes:,} bytes in {self.seconds:.3f} s, after waiting for {self.waited:.3f} s)"


traffic = Traffic()
