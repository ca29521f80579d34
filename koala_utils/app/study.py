"""The colour Turing test: can people tell recoloured photographs from real ones?

The user study of Deep Koalarization (Section 4.2 of arXiv 1712.03400): 41 people were shown 12
photographs, some of them recoloured, and took 45.87 % of the recoloured ones for real. This module
repeats it. The answers stay in a local file.
"""

from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import binomtest

from koala_utils.files import DamagedError, read_rows, write_rows

PAPER_SHARE = 0.4587  # of the recoloured photographs that were taken for real
PHOTOGRAPHS = 12  # shown to each person, as in the paper


@dataclass
class Answer:
    """What one person said of one photograph: a row of the file of answers."""

    session: str  # of one person; any name, or none
    photo: str
    recolored: bool  # True for a colouring, False for the photograph itself
    taken_for_real: bool
    seconds: float  # until the answer


class StudyError(ValueError):
    """A file of answers that cannot be used; the message says why."""


def draw(paths, seed, count=PHOTOGRAPHS):
    """What a person sees: a list of `count` (path, recolored), half of them recoloured."""
    rng = np.random.default_rng(seed)
    chosen = [paths[i] for i in rng.permutation(len(paths))[:count]]
    recolored = rng.permutation(np.arange(len(chosen)) < len(chosen) / 2)
    return list(zip(chosen, map(bool, recolored), strict=True))


def append_answer(answer, path):
    """Adds an answer to the file, which is created if it does not exist."""
    row = asdict(answer)
    flags = {key: int(row[key]) for key in ("recolored", "taken_for_real")}
    write_rows([row | flags], path, append=True)


def read_answers(path):
    """The answers of a file.

    Raises:
        StudyError: no such file, or one that :func:`append_answer` did not write.
    """

    def answer(session, photo, recolored, taken_for_real, seconds):
        flags = bool(int(recolored)), bool(int(taken_for_real))
        return Answer(session, photo, *flags, float(seconds))

    try:
        return [answer(**row) for row in read_rows(path)]
    except FileNotFoundError:
        raise StudyError(f"{path}: no answers there yet; nobody has taken part.") from None
    except (DamagedError, TypeError, ValueError):
        raise StudyError(f"{path}: not a file of answers.") from None


def share_taken_for_real(answers):
    """The share of photographs taken for real, with its 95 % Wilson interval: (share, low, high).

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927). The
    interval is also good for few answers. None without answers.
    """
    if not answers:
        return None
    yes = sum(answer.taken_for_real for answer in answers)
    interval = binomtest(yes, len(answers)).proportion_ci(0.95, method="wilson")
    return yes / len(answers), float(interval.low), float(interval.high)


def report(answers):
    """The result as lines of text: all answers beside the paper's share, then per photograph."""
    recolored, real = ([a for a in answers if a.recolored == kind] for kind in (True, False))
    people = len({answer.session for answer in answers})
    lines = [
        f"{len(answers)} answers of {people} {'person' if people == 1 else 'people'}",
        f"recoloured photographs taken for real: {_percent(recolored)};"
        f" the paper's: {PAPER_SHARE:.2%}",
        f"real photographs taken for real:       {_percent(real)}",
    ]
    photos = defaultdict(list)
    for answer in recolored:
        photos[answer.photo].append(answer)
    shares = sorted(photos.items(), key=lambda item: -share_taken_for_real(item[1])[0])
    return lines + [f"  {photo}: {_percent(given)}" for photo, given in shares]


def _percent(answers):
    if not answers:
        return "none shown"
    share, low, high = share_taken_for_real(answers)
    return f"{share:.1%} of {len(answers)} (95 % interval {low:.1%} to {high:.1%})"
