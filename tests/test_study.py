"""The colour Turing test: a fair draw, answers that are kept, and the figure beside the paper's."""

import pytest
from helpers import assert_one_sentence

from koala_utils.app import study
from koala_utils.app.study import Answer, StudyError

PHOTOS = [f"{i:02d}.png" for i in range(30)]


def test_draw_shows_each_photograph_once_and_half_of_them_recolored():
    shown = study.draw(PHOTOS, seed=1)
    assert len(shown) == len({photo for photo, _ in shown}) == 12
    assert sum(recolored for _, recolored in shown) == 6
    assert shown == study.draw(PHOTOS, seed=1) != study.draw(PHOTOS, seed=2)
    first = [study.draw(PHOTOS, seed)[0][1] for seed in range(40)]
    assert 8 < sum(first) < 32  # the order gives nothing away


def test_fewer_photographs_than_twelve_are_all_shown():
    assert len(study.draw(PHOTOS[:5], seed=0)) == 5


def test_answers_are_appended_and_read_back(tmp_path):
    path = tmp_path / "new" / "answers.csv"
    given = [Answer("ann", "a, b.png", True, False, 1.25), Answer("bob", "c.png", False, True, 3.0)]
    for answer in given:
        study.append_answer(answer, path)
    assert study.read_answers(path) == given
    assert path.read_text().count("session") == 1


# Wilson's interval by its formula, for 9 of 20: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
@pytest.mark.parametrize(
    "yes, count, expected",
    [(9, 20, (0.45, 0.2582, 0.6579)), (0, 12, (0, 0, 0.2425)), (5, 5, (1, 0.5655, 1))],
)
def test_interval_is_wilson_s(yes, count, expected):
    answers = [Answer("", "a", True, i < yes, 1.0) for i in range(count)]
    assert study.share_taken_for_real(answers) == pytest.approx(expected, abs=1e-4)


def test_report_tells_recolored_from_real_and_names_the_paper_s_figure():
    answers = [
        Answer("ann", "a", True, True, 1.0),
        Answer("ann", "b", True, False, 1.0),
        Answer("bob", "c", False, True, 1.0),
    ]
    lines = study.report(answers)
    assert lines[0] == "3 answers of 2 people"
    assert "50.0% of 2" in lines[1] and "45.87%" in lines[1]
    assert "100.0% of 1" in lines[2]
    assert [line.strip().split(":")[0] for line in lines[3:]] == ["a", "b"]


def test_without_answers_nothing_is_invented(tmp_path):
    assert study.share_taken_for_real([]) is None
    with pytest.raises(StudyError) as error:
        study.read_answers(tmp_path / "none.csv")
    assert_one_sentence(error, "none.csv", "nobody")


@pytest.mark.parametrize(
    "text",
    [
        "not,answers\n1,2\n",
        "session,photo,recolored,taken_for_real,seconds\nann,a,x,1,2\n",
        "session,photo,recolored,taken_for_real,seconds\nann,a\n",
    ],
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(StudyError) as error:
        study.read_answers(tmp_path / "other.csv")
    assert_one_sentence(error, "other.csv")
