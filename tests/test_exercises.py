import pytest
import torch

from lessons_lib.exercises import check

MAP = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (..., 0.5, "No answer yet: put yours where the three dots are, and run this cell again."),
        (0.50005, 0.5, "Right."),
        (torch.tensor(0.5), 0.5, "Right."),
        ([[0, 1, 2], [3, 4, 5]], MAP, "Right."),
        ("cat", 3.0, "Not yet: numbers are asked for, and your answer is a str."),
        (None, 3.0, "Not yet: numbers are asked for, and your answer is a NoneType."),
        (0.7, 0.5, "Not yet: your answer is too large."),
        (0.4, 0.5, "Not yet: your answer is too small."),
        (-0.5, 0.5, "Not yet: your answer has the wrong sign."),
        (2 * MAP, MAP, "Not yet: your answer is twice what it should be."),
        (
            MAP.T,
            MAP,
            "Not yet: your answer has shape (3, 2), and (2, 3) is asked for: swap rows and columns.",
        ),
        (MAP[0], MAP, "Not yet: your answer has shape (3,), and (2, 3) is asked for."),
        (MAP + torch.tensor([0, 0, 0.25]), MAP, "Not yet: 2 of 6 numbers are off, by 0.25 at most."),
        (float("nan"), 0.5, "Not yet: your answer holds NaN."),
    ],
)
def test_check_says_what_is_wrong(answer, expected, said, capsys):
    check(answer, expected)
    assert capsys.readouterr().out == said + "\n"


def test_within_is_the_caller_s(capsys):
    check(0.7, 0.5, within=0.3)
    assert capsys.readouterr().out == "Right.\n"
