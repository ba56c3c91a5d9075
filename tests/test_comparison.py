"""Numbers agree within their uncertainty and nothing else does; pictures agree if they show the same."""

from __future__ import annotations

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.display import SVG
from matplotlib.figure import Figure
from nbformat import NotebookNode, v4
from PIL import Image, ImageOps
from scipy.stats import binomtest, f
from torch.nn.functional import interpolate

from lessons_lib import plots
from lessons_lib.comparison import numbers, outputs, pictures
from lessons_lib.course import figure_style
from lessons_lib.data import critters

AGREE = [
    ("0.71 ± 0.03", "0.74 ± 0.03"),
    ("0.71 ± 0.01", "0.75 ± 0.05"),
    ("0.71 [0.64, 0.77]", "0.65 [0.58, 0.72]"),
    ("ahead by 11.3 points [+1.7, +21.0].", "ahead by 9.0 points [-0.5, +18.0]."),
    ("71 % [64 %, 77 %]", "66 % [59 %, 73 %]"),
    ("| CAM | 0.76 [0.71, 0.81] | 0.04 |", "| CAM | 0.79 [0.74, 0.84] | 0.05 |"),
    ("481 of 529 places keep it", "470 of 529 places keep it"),
    ("481 of 529 places (90.9%) keep it", "470 of 529 places (88.8%) keep it"),
    ("43,348 of 50,176 (86.4 %)", "43,340 of 50,176 (86.4 %)"),
    ("accuracy 0.71.", "accuracy 0.72."),
    ("a share of 90.9 %", "a share of 90.8 %"),
    ("18% of before", "19% of before"),
    ("11.4× sooner", "11.5× sooner"),
    ("slope −2.6 or -0.5", "slope −2.7 or -0.4"),
    ("1,124.1 apart", "1,124.2 apart"),
    ("difference 8.0e-07", "difference 8.1e-07"),
    ("difference 9.9e-07", "difference 1.0e-06"),
    ("tensor([[0.1234, -0.5000]])", "tensor([[0.1235, -0.5001]])"),
    ("-0.00", "0.00"),
    ("{'a': 0.08, 'b': 0.30}", "{'a': 0.09, 'b': 0.29}"),
    # alignment
    ("a   0.97   b", "a  -0.00   b".replace("-0.00", "0.98")),
    ("change   0.00\nother   -0.41", "change  -0.01\nother   -0.41"),
    ("       loss\ncat    10.0\n----  -----", "      loss\ncat   9.9\n----  ----"),
    ("<tr><td>10.0</td></tr>", "<tr><td>9.9</td></tr>"),
]
DIFFER = [
    ("0.71 ± 0.03", "0.75 ± 0.03"),
    ("0.71 [0.64, 0.77]", "0.85 [0.79, 0.91]"),
    ("0.71 [0.64, 0.77]", "0.71"),
    ("0.71 ± 0.03", "0.71 [0.68, 0.74]"),
    ("0.71 [0.64, 0.77]", "0.90 [0.10, 0.95]"),  # widened
    ("0.71 ± 0.01", "0.30 ± 0.60"),
    ("0.71 [0.64, 0.77]", "0.71 [0.77, 0.64]"),  # no interval
    ("481 of 529 places", "430 of 529 places"),
    ("481 of 529 places", "481 of 530 places"),
    ("481 of 529 places (90.9%)", "470 of 529 places (90.9%)"),  # the percentage is of another count
    ("accuracy 0.71", "accuracy 0.73"),
    ("accuracy 0.7", "accuracy 0.71"),
    ("accuracy 0.71", "accuracy"),
    ("test accuracy 0.71", "accuracy 0.71"),
    ("cat 0.39, dog 0.33", "dog 0.39, cat 0.33"),
    ("shape (3, 32, 32)", "shape (3, 32, 31)"),
    ("44×44 units", "44×43 units"),
    ("1,045,482 parameters", "1,045,483 parameters"),
    ("after 17 epochs", "after 18 epochs"),
    ("rate 1e-04", "rate 1e-03"),
    ("torch 2.15.0", "torch 2.15.1"),
    ("layer1.0.bn2", "layer1.1.bn2"),
    ("lite0", "lite1"),
    ("smaller: True", "smaller: False"),
    ("p < 0.01", "p > 0.01"),
    ("a 0.71\nb 0.30", "a 0.71"),
    ("1/3 dead", "2/3 dead"),
    ("one two", "onetwo"),
]


@pytest.mark.parametrize(("one", "other"), AGREE)
def test_numbers_agree_within_their_uncertainty(one: str, other: str):
    assert numbers.agree(one, other)
    assert numbers.agree(other, one)


@pytest.mark.parametrize(("stored", "new"), DIFFER)
def test_nothing_else_agrees(stored: str, new: str):
    assert not numbers.agree(stored, new)


def test_only_what_disagrees_is_left_different():
    stored = "cat   0.71\ndog   0.30 of 5\nend"
    new = "cat  0.72\ndog   0.40 of 5\nend"
    assert numbers.reconciled(stored, new) == "cat   0.71\ndog   0.40 of 5\nend"
    assert numbers.reconciled(stored, "cat 0.72") == "cat 0.72"


@pytest.mark.parametrize(("right", "size"), [(0, 5), (5, 5), (481, 529), (1, 100)])
def test_wilson_is_scipys(right: int, size: int):
    expected = binomtest(right, size).proportion_ci(0.95, method="wilson")
    # 1.96 has three digits
    assert numbers.wilson(right, size) == pytest.approx(expected, abs=1e-5)


def test_an_interval_may_be_as_much_wider_as_luck_makes_it():
    assert round(f.ppf(0.975, 2, 2) ** 0.5, 1) == numbers.WIDENED


def test_intervals_that_say_nothing_are_named():
    assert list(numbers.vague("a 0.71 ± 0.50\nb 0.65 ± 0.05")) == ["0.71 ± 0.50"]
    assert list(numbers.vague("0.50 [0.00, 1.00]")) == []  # what a share can be, and no more
    assert list(numbers.vague("0.50 [-0.10, 1.10]")) == ["0.50 [-0.10, 1.10]"]
    assert list(numbers.vague("7.6 points [-20.0, +35.2]")) == ["7.6 points [-20.0, +35.2]"]
    assert list(numbers.vague("A 0.03 [0.01, 0.05]\nB 0.27 [0.24, 0.30]")) == []
    assert list(numbers.vague("CAM 0.50 ± 0.10, edges 0.45 ± 0.10, chance 0.10")) == []


# --- pictures, on figures that lessons show ------------------------------------------------------------------

LAYERS = [f"conv{number}" for number in range(1, 6)]
CURVES = {
    "small": [0.2, 0.3, 0.5, 0.6, 0.7],
    "large": [0.25, 0.28, 0.3, 0.33, 0.4],
    "random": [0.9, 0.8, 0.85, 0.7, 0.75],
}
PHOTOS = critters.generate(8, 64, seed=0).images
MAPS = interpolate(
    torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0)), size=64, mode="bicubic"
)[0]


def lines(*, moved: float = 0, hidden: int | None = None, order: str = "small large random") -> Figure:
    values = {
        name: dict(zip(LAYERS, (value + moved for value in CURVES[name]), strict=True))
        for name in order.split()
    }
    figure = plots.by_layer(
        values, title="Dead channels", ylabel="share", reference=0.1, reference_name="area"
    )
    if hidden is not None:
        figure.axes[0].lines[hidden].set_visible(False)
    return figure


def history(*, moved: float = 0, hidden: int | None = None) -> Figure:
    epochs = range(1, 9)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    left.plot(epochs, [2 / i + moved for i in epochs], marker="o", markersize=3)
    left.set(title="Training loss", xlabel="epoch", ylabel="cross-entropy (nats)", ylim=(0, None))
    right.plot(epochs, [0.4 + 0.05 * i + moved for i in epochs], marker="o", markersize=3, label="training")
    right.plot(epochs, [0.3 + 0.05 * i - moved for i in epochs], marker="s", markersize=3, label="held out")
    right.axhline(0.65, color="0.4", linestyle="--", label="before")
    right.set(title="Accuracy", xlabel="epoch", ylabel="share right", ylim=(0, 1.02))
    right.legend(fontsize=8)
    if hidden is not None:
        right.lines[hidden].set_visible(False)
    return figure


def maps(*, colours: str = plots.ACTIVATION, noise: float = 0, swapped: bool = False) -> Figure:
    values = MAPS + noise * torch.randn(MAPS.shape, generator=torch.Generator().manual_seed(1))
    figure = plots.pictures(PHOTOS[:1].expand(8, -1, -1, -1), columns=4)
    for axis, value in zip(figure.axes, values[[1, 0, *range(2, 8)]] if swapped else values, strict=True):
        axis.clear()
        axis.axis("off")
        shown = axis.imshow(value.numpy(), cmap=colours, vmin=0, vmax=1)
    figure.colorbar(shown, ax=figure.axes)
    return figure


def photos(*, swapped: bool = False, titles: str = "abcdefgh") -> Figure:
    return plots.pictures(PHOTOS[[1, 0, *range(2, 8)]] if swapped else PHOTOS, list(titles), columns=4)


def file(figure: Figure) -> bytes:
    return plots.to_png(figure)


def changed(png: bytes, change) -> bytes:
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(png)).convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()


ALIKE = {
    "curves that move by half a hundredth": lambda: (lines(), lines(moved=0.005)),
    "accuracies that move by half a hundredth": lambda: (history(), history(moved=0.005)),
    "maps that differ by a hundredth": lambda: (maps(), maps(noise=0.01)),
}
UNLIKE = {
    "no first series": lambda: (lines(), lines(hidden=0)),
    "no second series": lambda: (lines(), lines(hidden=1)),
    "no third series": lambda: (lines(), lines(hidden=2)),
    "no dashed reference": lambda: (lines(), lines(hidden=3)),
    "a series left out": lambda: (lines(), lines(order="small large")),
    "names of series swapped": lambda: (lines(), lines(order="large small random")),
    "no series of two panels' one": lambda: (history(), history(hidden=0)),
    "photographs swapped": lambda: (photos(), photos(swapped=True)),
    "maps swapped": lambda: (maps(), maps(swapped=True)),
    "another colour scale": lambda: (maps(), maps(colours="viridis")),
    "a scale like it": lambda: (maps(), maps(colours="inferno")),
    "the scale turned round": lambda: (maps(), maps(colours="magma_r")),
    "no titles": lambda: (photos(), photos(titles="        ")),
}
# of pictures of what was trained where they are shown, position means nothing
NOT_SEEN_IN_TRAINED = {
    "names of series swapped",
    "photographs swapped",
    "maps swapped",
    "the scale turned round",
    "no titles",
}


@pytest.fixture(autouse=True)
def style(no_open_figures: None) -> None:
    figure_style()


@pytest.mark.parametrize("draw", ALIKE.values(), ids=ALIKE.keys())
def test_what_another_processor_draws_is_alike(draw):
    stored, new = map(file, draw())
    assert pictures.difference(stored, new) == ""
    assert pictures.difference(stored, new, by="colours") == ""


@pytest.mark.parametrize("name", UNLIKE)
def test_what_shows_something_else_is_not(name: str):
    stored, new = map(file, UNLIKE[name]())
    assert pictures.difference(stored, new)
    assert pictures.difference(new, stored)
    assert bool(pictures.difference(stored, new, by="colours")) == (name not in NOT_SEEN_IN_TRAINED)


@pytest.mark.parametrize("by", ["place", "colours"])
@pytest.mark.parametrize("draw", [lines, history, maps, photos])
def test_blank_inverted_and_small_pictures_are_not_alike(draw, by: pictures.By):
    stored = file(draw())
    blank = changed(stored, lambda image: Image.new("RGB", image.size, "white"))
    for new in (blank, changed(stored, ImageOps.invert), changed(stored, ImageOps.grayscale)):
        assert pictures.difference(stored, new, by=by)
    assert pictures.difference(stored, blank, by=by)
    smaller = changed(stored, lambda image: image.resize((image.width - 2, image.height)))
    assert "pixels" in pictures.difference(stored, smaller, by=by)


def test_of_pictures_that_training_chose_only_size_and_blankness_are_seen():
    stored, other = (file(plots.pictures(critters.generate(4, 64, seed=n).images)) for n in (1, 2))
    assert pictures.difference(stored, other, by="colours")
    assert pictures.difference(stored, other, by="size") == ""
    assert "blank" in pictures.difference(
        stored, changed(stored, lambda i: Image.new("RGB", i.size, "white")), by="size"
    )
    smaller = changed(stored, lambda image: image.resize((image.width - 2, image.height)))
    assert "pixels" in pictures.difference(stored, smaller, by="size")


def test_how_pictures_are_compared_follows_the_tags():
    assert [outputs.compared_by(tags) for tags in (["cover"], ["cover", "trained"], ["chosen"])] == [
        "place",
        "colours",
        "size",
    ]


def test_a_pixel_is_looked_for_near_its_place_only():
    one, near, far = (np.full((64, 64, 3), 255, np.uint8) for _ in range(3))
    one[:, 10:12] = near[:, 10 + pictures.REACH : 12 + pictures.REACH] = 0
    far[:, 12 + pictures.REACH : 14 + pictures.REACH] = 0
    assert pictures.unexplained(one, near).max() == 0
    # two columns of 32 pixels in a block of 32 columns
    assert pictures.unexplained(one, far).max() == pytest.approx(2 / 32)
    assert pictures.unexplained(far, one).shape == (2, 2)


def test_a_packed_picture_is_smaller_and_still_alike():
    photographs = [file(plots.pictures(large)) for large in (critters.generate(8, 128, seed=1).images,)]
    for original, kinds in [
        (file(lines()), {"png"}),
        (file(maps()), {"png"}),
        (photographs[0], {"png", "jpeg"}),
    ]:
        kind, packed = pictures.lightest(original)
        assert kind in kinds
        assert len(packed) < 0.7 * len(original)
        assert pictures.fidelity(pictures.pixels(original), pictures.pixels(packed)) >= pictures.FIDELITY
        assert pictures.difference(packed, original) == ""
        assert pictures.lightest(original, kinds=("png",))[0] == "png"


@pytest.mark.parametrize("name", UNLIKE)
def test_what_changes_is_seen_in_a_packed_picture_too(name: str):
    stored, new = map(file, UNLIKE[name]())
    assert pictures.difference(pictures.lightest(stored)[1], new)


def test_a_picture_of_many_colours_is_packed_so_that_it_is_like_itself():
    # as a wall of filters: a palette keeps its structure (SSIM 0.93) and not its colours
    colours = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((800, 800), Image.Resampling.NEAREST).save(buffer, "PNG")
    _, packed = pictures.lightest(buffer.getvalue())
    assert len(packed) < len(buffer.getvalue())
    assert pictures.difference(packed, buffer.getvalue()) == ""


def test_a_picture_too_small_to_pack_stays():
    buffer = io.BytesIO()
    Image.new("RGB", (6, 50), "white").save(buffer, "PNG")
    assert pictures.lightest(buffer.getvalue()) == ("png", buffer.getvalue())


# --- outputs -------------------------------------------------------------------------------------------------


def unchanged(text: str) -> str:
    return text


def stream(text: str) -> NotebookNode:
    return v4.new_output("stream", name="stdout", text=text)


def shown(html: str, **others: str) -> NotebookNode:
    return v4.new_output("display_data", {"text/html": html, "text/plain": "<HTML object>"} | others)


def drawing(value: float, colour: str = "#0072B2") -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><path fill="{colour}" d="M{value} 3v5"/></svg>'
    return plots.img_tag(SVG(svg), "A bar stands there.")


def test_outputs_agree_by_texts_and_pictures():
    one = [stream("a 0.71"), shown(plots.img_tag(lines(), "Curves rise with depth."))]
    other = [stream("a 0.72"), shown(plots.img_tag(lines(moved=0.003), "Curves rise with depth."))]
    assert outputs.equal(one, other, unchanged)
    assert not outputs.equal(one, other[:1], unchanged)
    assert not outputs.equal(one, other[::-1], unchanged)
    assert not outputs.equal(one, [stream("a 0.81"), other[1]], unchanged)
    gone = shown(plots.img_tag(lines(hidden=0), "Curves rise with depth."))
    assert not outputs.equal(one, [other[0], gone], unchanged)
    assert outputs.same_shape(one, [stream("a 17"), gone], unchanged)
    assert not outputs.same_shape(one, [stream("b 17"), gone], unchanged)


def test_a_sanitizer_comes_first():
    config = "[times]\nregex: \\d+ s\\b\nreplace: TIME\n"
    sanitize = outputs.sanitizer(config)
    assert sanitize("after 12 s") == "after TIME"
    assert outputs.equal([stream("0.71 after 12 s")], [stream("0.72 after 3 s")], sanitize)


def test_drawings_agree_by_their_numbers():
    stored = [shown(drawing(1.23))]
    assert outputs.picture_differences(stored, [shown(drawing(1.24))]) == []
    assert outputs.picture_differences(stored, [shown(drawing(1.33))])
    assert outputs.picture_differences(stored, [shown(drawing(1.23, "#D55E00"))])


def test_the_order_in_which_a_kernel_gives_the_forms_of_an_output_says_nothing():
    """A file holds them by the alphabet."""
    forms = {"text/plain": "<HTML object>", "text/html": '<img alt="A curve, 0.71 high.">'}
    one, other = (
        [v4.new_output("display_data", dict(items))] for items in (forms.items(), [*forms.items()][::-1])
    )
    assert outputs.equal(one, other, unchanged)
    assert outputs.same_shape(one, other, unchanged)
    assert outputs.reconciled(one, other, unchanged)[0]["data"] == forms
    other[0]["data"]["text/html"] = '<img alt="A curve, 0.98 high.">'
    assert not outputs.equal(one, other, unchanged)


def test_pictures_are_found_wherever_they_are():
    png = file(lines())
    own = v4.new_output("display_data", {"image/png": base64.b64encode(png).decode()})
    assert list(outputs.embedded([own])) == [("png", png)]
    inside = [shown(plots.img_tag(lines(), "Curves rise with depth."))]
    assert list(outputs.embedded(inside)) == [("png", png)]
    assert outputs.picture_differences([own], inside) == []
    outputs.pack(inside)
    ((kind, packed),) = outputs.embedded(inside)
    assert kind == "png"
    assert len(packed) < len(png)
