"""The decision helper draws what its controls say."""

from lessons_lib.methods.transfer import STRATEGIES, decide
from lessons_lib.plots.transfer import decision
from lessons_lib.widgets.transfer import decision_panel
from tests.figures import file_of, panel_png

SCORES = {
    similarity: {
        name: {5: (0.3 + i / 10, 0.35 + i / 10), 60: (0.8 - i / 10, 0.82 - i / 10)}
        for i, name in enumerate(STRATEGIES)
    }
    for similarity in ("similar", "different")
}


def test_the_helper_draws_what_its_controls_say():
    box = decision_panel(SCORES, small=20)
    size, target = box.children[0].children
    first = decide(SCORES, 1, "similar", small=20)
    assert file_of(box) == panel_png(decision(first))
    size.value, target.value = 500, "different"
    found = decide(SCORES, 500, "different", small=20)
    assert file_of(box) == panel_png(decision(found))
    assert "Measured at 60 a class" in box.children[-1].value
    assert box.children[1].value == ""
