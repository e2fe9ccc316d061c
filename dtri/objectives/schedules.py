"""Learning-rate schedules as functions of the iteration."""


def exponential(lr: float, gamma: float, every: int, t: int) -> float:
    """lr * gamma^(t // every + 1): the official code of paper B calls its scheduler at the start of each epoch."""
    return lr * gamma ** (t // every + 1)
