"""The panel draws what its controls say."""

from lessons_lib.methods.transfer import decide
from lessons_lib.plots.transfer import decision
from lessons_lib.widgets.transfer import decision_panel
from tests.figures import file_of, panel_png

SCORES = {
    target: {
        name: {5: (0.3 + i / 10, 0.35 + i / 10), 60: (0.8 - i / 10, 0.82 - i / 10)}
        for i, name in enumerate("abcd")
    }
    for target in ("photographs", "digits")
}


def test_the_panel_draws_what_its_controls_say():
    box = decision_panel(SCORES)
    size, target = box.children[0].children
    assert file_of(box) == panel_png(decision(decide(SCORES, 1, "photographs")))
    size.value, target.value = 500, "digits"
    assert file_of(box) == panel_png(decision(decide(SCORES, 500, "digits")))
    assert "digits, 60 pictures a class" in box.children[-1].value
    assert box.children[1].value == ""
