"""The checks behind the notebooks' exercises: each says whether what was asked for is there."""


def check(right, hint):
    """Prints "right", or "not yet" with a hint of what to look at.

    Args:
        right: whether the exercise is solved.
        hint: one sentence, for those whose answer is another one.
    """
    print("right" if right else f"not yet: {hint}")
