"""The colour Turing test: can people tell recoloured photographs from real ones?

The user study of Deep Koalarization (Section 4.2 of arXiv 1712.03400): 41 people were shown 12 photographs, some of them
recoloured, and 45.87 % of the recoloured ones were taken for real. Here it can be repeated; the answers stay in a local file.
"""

import csv
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

PAPER_SHARE = 0.4587  # of recoloured photographs that were taken for real: Section 4.2 of the paper
PHOTOGRAPHS = 12  # shown to each person, as in the paper


@dataclass
class Answer:
    """What one person said of one photograph."""

    session: str  # of one person; any name, or none
    photo: str
    recolored: bool  # what was shown: True for a coloring, False for the photograph itself
    taken_for_real: bool
    seconds: float  # until the answer


class StudyError(ValueError):
    """A file of answers that cannot be used; the message says why."""


def draw(paths, seed, count=PHOTOGRAPHS):
    """Which photographs a person sees, in which order: `count` of them, half recoloured.

    Returns:
        A list of (path, recolored).
    """
    rng = np.random.default_rng(seed)
    chosen = [paths[i] for i in rng.permutation(len(paths))[:count]]
    recolored = rng.permutation(np.arange(len(chosen)) < len(chosen) / 2)
    return list(zip(chosen, map(bool, recolored)))


def append_answer(answer, path):
    """Adds an answer to the file, which is begun where there is none."""
    path = Path(path)
    new = not path.exists() or not path.stat().st_size
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(
            lines, [field.name for field in fields(Answer)], lineterminator="\n"
        )
        if new:
            writer.writeheader()
        writer.writerow(
            {
                key: int(value) if isinstance(value, bool) else value
                for key, value in asdict(answer).items()
            }
        )


def read_answers(path):
    """The answers of a file.

    Raises:
        StudyError: no such file, or one that :func:`append_answer` did not write.
    """
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [
            Answer(
                row["session"],
                row["photo"],
                bool(int(row["recolored"])),
                bool(int(row["taken_for_real"])),
                float(row["seconds"]),
            )
            for row in rows
        ]
    except FileNotFoundError:
        raise StudyError(f"{path}: no answers there yet; nobody has taken part.") from None
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not a file of answers ({error}).") from None


def share_taken_for_real(answers):
    """The share of the photographs shown that were taken for real, with its 95 % Wilson interval: (share, low, high).

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927); it keeps its promise for few answers, too.
    None without answers.
    """
    if not answers:
        return None
    yes = sum(answer.taken_for_real for answer in answers)
    interval = binomtest(yes, len(answers)).proportion_ci(0.95, method="wilson")
    return yes / len(answers), float(interval.low), float(interval.high)


def report(answers):
    """What the answers say, as lines of text: overall beside the paper's figure, then photograph by photograph."""
    recolored, real = ([a for a in answers if a.recolored == kind] for kind in (True, False))
    people = len({answer.session for answer in answers})
    lines = [
        f"{len(answers)} answers of {people} {'person' if people == 1 else 'people'}",
        f"recoloured photographs taken for real: {_percent(recolored)}; the paper's: {PAPER_SHARE:.2%}",
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
