"""Maps, neighbours and tables show the right points, colours and pictures; the page answers to the keyboard."""

import base64
import html
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from lessons_lib.data.pictures import Pictures
from lessons_lib.methods.embeddings import nearest
from lessons_lib.plots.embeddings import (
    CLASS_COLOURS,
    CLASS_MARKS,
    OTHER,
    SAME,
    class_maps,
    hover_map,
    neighbour_rows,
    picked,
    picture_map,
    spread_out,
    tables,
)
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

N = 60
CLASSES = ("cat", "dog", "<frog>")


@pytest.fixture
def pictures():
    """Pictures of one colour each, so that they can be recognised."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (N, 3, 1, 1), dtype=torch.uint8).expand(-1, -1, 16, 16).contiguous()
    return Pictures(images, torch.arange(N) % 3, CLASSES, "colours")


@pytest.fixture
def placed():
    return torch.randn(N, 2, generator=torch.Generator().manual_seed(1))


def test_class_maps_give_each_point_its_class_colour(pictures, placed):
    figure = class_maps({"pixels": placed, "features": 2 * placed}, pictures.labels, CLASSES)
    assert [axis.get_title() for axis in figure.axes] == ["pixels", "features"]
    for axis, scale in zip(figure.axes, (1, 2), strict=True):
        (dots,) = axis.collections
        where, colours = np.asarray(dots.get_offsets()), dots.get_facecolors()
        assert len(where) == len(colours) == N
        for point, label in zip(scale * placed.numpy(), pictures.labels, strict=True):
            (same,) = np.flatnonzero(np.abs(where - point).max(1) < 1e-5)
            assert to_hex(colours[same]).upper() == CLASS_COLOURS[int(label)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASSES)
    drawn(figure)


def test_ten_classes_have_ten_pairs_of_a_colour_and_a_mark(placed):
    labels = torch.arange(N) % 10
    (axis,) = class_maps({"map": placed}, labels, [str(i) for i in range(10)]).axes
    discs, crosses = axis.collections
    assert len(discs.get_offsets()) == len(crosses.get_offsets()) == N // 2
    handles = axis.figure.legends[0].legend_handles
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 10
    assert {handle.get_marker() for handle in handles} == set(CLASS_MARKS)
    drawn(axis.figure)


def test_a_class_is_named_only_where_it_has_a_place_of_its_own(pictures, placed):
    apart = placed + 20 * torch.tensor([[0.0, 0], [1, 0], [0, 1]])[pictures.labels]
    together = placed[::3].repeat_interleave(3, 0)  # one of each class in every place
    mixed, named = class_maps({"mixed": together, "apart": apart}, pictures.labels, CLASSES).axes
    assert not mixed.texts
    places = {text.get_text(): text.get_position() for text in named.texts}
    assert set(places) == set(CLASSES)
    for number, name in enumerate(CLASSES):
        middle = apart[pictures.labels == number].median(0).values
        # a long name at the edge is moved into the frame, by no more than half of it
        assert places[name] == pytest.approx(middle.tolist(), abs=0.0165 * 26 * len(name) / 2)
        assert places[name][1] == pytest.approx(float(middle[1]))


def test_a_class_without_points_has_no_name(placed):
    figure = class_maps({"map": placed}, torch.zeros(N, dtype=torch.int64), CLASSES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["cat"]


@pytest.mark.parametrize("apart", [(0.4, 0.1), (0.1, -0.4), (0.0, 0.0)])
def test_no_name_hides_another_or_leaves_the_frame(apart):
    """As they are drawn: two classes beside each other, and one with a long name at the edge."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], apart, [5.0, 0.0]])
    labels = torch.arange(90) % 3
    placed = middles[labels] + 0.02 * torch.randn(90, 2, generator=generator)
    figure = class_maps({"map": placed}, labels, ("gravel", "grass", "motorcycle"))
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert {text.get_text() for text in axis.texts} >= {"motorcycle"} | (
        {"gravel", "grass"} if any(apart) else set()
    )
    for i, box in enumerate(boxes):
        assert axis.bbox.x0 - 1 <= box.x0 and box.x1 <= axis.bbox.x1 + 1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    drawn(figure)


def test_picture_map_is_as_large_whatever_the_map(pictures, placed):
    sizes = {
        tuple(picture_map(placed * torch.tensor(shape), pictures, title="x").get_size_inches())
        for shape in ((1.0, 1.0), (3.0, 1.0), (1.0, 5.0))
    }
    assert len(sizes) == 1
    plt.close("all")


def test_picture_map_places_pictures_that_do_not_cover_each_other(pictures, placed):
    across = 6
    figure = picture_map(placed, pictures, title="by pixels", across=across)
    (axis,) = figure.axes
    kept = spread_out(placed, across)
    assert axis.get_title() == "by pixels"
    assert len(axis.images) == len(kept) > 5
    assert len(axis.collections[0].get_offsets()) == N
    boxes = []
    for thumbnail, i in zip(axis.images, kept, strict=True):
        left, right, bottom, top = thumbnail.get_extent()
        assert ((left + right) / 2, (bottom + top) / 2) == pytest.approx(placed[i].tolist(), abs=1e-5)
        assert np.array_equal(thumbnail.get_array(), pictures.images[i].permute(1, 2, 0).numpy())
        boxes.append((left, right, bottom, top))
    for i, (left, right, bottom, top) in enumerate(boxes):
        assert axis.get_xlim()[0] < left < right < axis.get_xlim()[1]
        assert axis.get_ylim()[0] < bottom < top < axis.get_ylim()[1]
        for other in boxes[i + 1 :]:
            assert left > other[1] or right < other[0] or bottom > other[3] or top < other[2], (
                "one hides another"
            )
    drawn(figure)


def test_spread_out_keeps_all_that_fit():
    line = torch.stack([torch.arange(10.0), torch.zeros(10)], dim=1)
    assert spread_out(line, 9) == list(range(10))
    assert spread_out(line, 3) == [0, 3, 6, 9]
    assert spread_out(torch.zeros(5, 2), 3) == [0, 1, 2, 3, 4], "all in one place: none is further away"


def test_neighbour_rows_frame_neighbours_by_class(pictures):
    found = {"pixels": torch.tensor([[3, 4], [2, 5]]), "features": torch.tensor([[6, 9], [4, 7]])}
    figure = neighbour_rows(pictures, [0, 1], found)
    axes = np.array(figure.axes).reshape(4, 3)
    assert [axis.get_title() for axis in axes[:, 0]] == ["cat", "", "dog", ""]
    assert [axis.get_ylabel() for axis in axes[:, 1]] == ["pixels", "features"] * 2
    for i, query in enumerate([0, 1]):
        assert np.array_equal(axes[2 * i, 0].images[0].get_array()[0, 0], pictures.images[query, :, 0, 0])
        for j, rows in enumerate(found.values()):
            for axis, neighbour in zip(axes[2 * i + j, 1:], rows[i].tolist(), strict=True):
                same = pictures.labels[neighbour] == pictures.labels[query]
                assert np.array_equal(axis.images[0].get_array()[0, 0], pictures.images[neighbour, :, 0, 0])
                assert to_hex(axis.patches[0].get_edgecolor()).upper() == (SAME if same else OTHER)
                assert axis.patches[0].get_linestyle() == ("-" if same else "--")
                assert axis.get_title() == ("" if same else CLASSES[int(pictures.labels[neighbour])])
    drawn(figure)
    with pytest.raises(ValueError, match="all 3 queries"):
        neighbour_rows(pictures, [0, 1, 2], found)


def test_tables_leave_the_diagonal_out():
    table = torch.rand(3, 3)
    figure = tables(
        {"contacts": table, "confusions": 2 * table}, CLASSES, unit="share", rows="class", columns="answer"
    )
    first, second = figure.axes[:2]
    shown = np.ma.filled(first.images[0].get_array().astype(float), np.nan)
    assert np.isnan(np.diag(shown)).all()
    off = ~np.eye(3, dtype=bool)
    assert np.allclose(shown[off], table.numpy()[off])
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 2 * table.numpy()[off].max())
    assert (first.get_xlabel(), first.get_ylabel()) == ("answer", "class")
    assert [label.get_text() for label in second.get_yticklabels()] == list(CLASSES)
    drawn(figure)


def test_picked_rings_the_point_and_shows_its_neighbours(pictures, placed):
    figure = picked(placed, pictures, 17, title="features")
    left, large, *small = figure.axes
    assert left.get_title() == "features"
    assert np.allclose(left.lines[0].get_xydata()[0], placed[17])
    assert large.get_title() == "point 17: <frog>"
    (legend,) = figure.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == list(CLASSES)
    assert np.array_equal(large.images[0].get_array()[0, 0], pictures.images[17, :, 0, 0])
    for axis, neighbour in zip(small, nearest(placed, 8, [17])[0], strict=True):
        assert np.array_equal(axis.images[0].get_array()[0, 0], pictures.images[neighbour, :, 0, 0])
    drawn(figure)
    for index in (-1, N):
        with pytest.raises(ValueError, match="0–59"):
            picked(placed, pictures, index, title="features")


class _Page(HTMLParser):
    """The dots of a page with the name and the cut-out of each."""

    def __init__(self):
        super().__init__()
        self.dots, self.cuts = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "input":
            self.dots.append(dict(attrs))
        if tag == "b":
            self.cuts.append(dict(attrs))


def page_of(shown):
    return html.unescape(re.search(r'srcdoc="([^"]*)"', shown.data)[1])


def test_hover_map_shows_each_dots_own_picture(pictures, placed):
    page = page_of(hover_map(placed, pictures, title="Sixty colours on a map of noise."))
    parser = _Page()
    parser.feed(page)
    assert len(parser.dots) == len(parser.cuts) == N
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([\w+/=]+)", page)[1]))))
    columns, rows = sheet.shape[1] // 32, sheet.shape[0] // 32
    assert columns > 1 < rows
    seen = []
    for dot, cut in zip(parser.dots, parser.cuts, strict=True):
        i = int(re.search(r"point (\d+)", dot["aria-label"])[1])
        seen.append(i)
        label = int(pictures.labels[i])
        assert dot["aria-label"] == cut["title"] == f"{CLASSES[label]}, point {i}"
        assert dot["class"] == f"c{label}"
        assert (dot["type"], dot["name"]) == ("radio", "p"), "one group, so that arrow keys walk through it"
        x, y = (float(share) / 100 for share in re.findall(r"([\d.]+)%", cut["style"]))
        centre = sheet[round(y * (rows - 1)) * 32 + 16, round(x * (columns - 1)) * 32 + 16].astype(int)
        assert abs(centre - pictures.images[i, :, 0, 0].numpy()).max() < 12, "JPEG changes colours a little"
    assert sorted(seen) == list(range(N))
    assert pictures.labels[seen].diff().min() == 0, "class by class"


def test_hover_map_puts_dots_where_the_map_has_them(pictures, placed):
    parser = _Page()
    parser.feed(page_of(hover_map(placed, pictures, title="Sixty colours on a map of noise.")))
    where, longer = np.zeros((N, 2)), np.ptp(placed.numpy(), axis=0).max()
    for dot in parser.dots:
        where[int(re.search(r"point (\d+)", dot["aria-label"])[1])] = [
            float(number) for number in re.findall(r"([\d.]+)%", dot["style"])
        ]
    assert where.min() >= 0
    assert where.max() <= 100
    assert np.ptp(where, axis=0) * 100 == pytest.approx(
        96 * 100 * np.ptp(placed.numpy(), axis=0) / longer, abs=10
    )
    assert np.corrcoef(where[:, 0], placed[:, 0])[0, 1] == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(where[:, 1], placed[:, 1])[0, 1] == pytest.approx(-1, abs=1e-3), (
        "pages count downwards"
    )


def test_hover_map_escapes_names_and_stays_small(pictures, placed):
    shown = hover_map(placed, pictures, title='A "map" of <sixty> colours.')
    assert "<frog>" not in page_of(shown)
    assert 'title="A &quot;map&quot; of &lt;sixty&gt; colours."' in shown.data
    torch.manual_seed(0)
    coarse = torch.rand(1000, 3, 8, 8)
    images = (torch.nn.functional.interpolate(coarse, size=32, mode="bicubic") * 255).clamp(0, 255).byte()
    many = Pictures(images, torch.arange(1000) % 3, CLASSES, "blurred noise")
    assert len(hover_map(torch.randn(1000, 2), many, title="A thousand blurs on a map.").data) < 1_000_000


def test_hover_map_refuses_what_it_cannot_show(pictures, placed):
    with pytest.raises(ValueError, match="sentence"):
        hover_map(placed, pictures, title="a map")
    many = Pictures(pictures.images[:1].expand(1001, -1, -1, -1), torch.zeros(1001).long(), CLASSES, "one")
    with pytest.raises(ValueError, match="subset"):
        hover_map(torch.zeros(1001, 2), many, title="Too many points for one page.")


def test_maps_that_do_not_fit_are_refused(placed):
    labels = torch.zeros(N, dtype=torch.int64)
    with pytest.raises(ValueError, match="10 classes, not 11"):
        class_maps({"map": placed}, labels, [str(i) for i in range(11)])
    with pytest.raises(ValueError, match=r"\(60, 2\)"):
        class_maps({"map": placed[:5]}, labels, CLASSES)


def test_colours_can_be_told_apart_by_colour_blind_readers():
    """Distances in Lab after Machado's simulation of full deuteranomaly, protanomaly and none."""
    from skimage.color import rgb2lab

    simulations = (
        np.eye(3),
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    )
    colours = np.array([[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for code in CLASS_COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for simulation in simulations:
        seen = np.clip(linear @ np.transpose(simulation), 0, 1)
        seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
        lab = rgb2lab(seen[None])[0]
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(colours), 1)]
        assert gaps.min() > 20
