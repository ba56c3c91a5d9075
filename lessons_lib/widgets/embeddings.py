"""The panel of lesson 03: follow one picture through maps of other spaces, perplexities and seeds."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor

from lessons_lib.data.pictures import Pictures
from lessons_lib.plots.embeddings import picked
from lessons_lib.widgets import panel

Maps = Mapping[tuple[float, int], Tensor]


def map_panel(maps: Mapping[str, Maps], pictures: Pictures) -> ipywidgets.VBox:
    """Choose a space, a perplexity and a seed, and walk from picture to picture.

    Args:
        maps: by space, then perplexity and seed: maps of the same pictures, shape (N, 2), computed beforehand so
            that the panel answers at once. Every space has the same perplexities and seeds.
        pictures: the N pictures.
    """
    perplexities, seeds = (sorted(set(kind)) for kind in zip(*next(iter(maps.values())), strict=True))
    space = ipywidgets.Dropdown(options=list(maps), value=list(maps)[-1], description="space")
    middle = perplexities[len(perplexities) // 2]
    perplexity = ipywidgets.SelectionSlider(options=perplexities, value=middle, description="perplexity")
    seed = ipywidgets.SelectionSlider(options=seeds, description="seed")
    picture = ipywidgets.IntSlider(max=len(pictures) - 1, description="picture")

    def draw(space: str, perplexity: float, seed: int, picture: int) -> Figure:
        title = f"{space}: perplexity {perplexity}, seed {seed}"
        return picked(maps[space][perplexity, seed], pictures, picture, title=title)

    def alt(space: str, perplexity: float, seed: int, picture: int) -> str:
        name = pictures.classes[int(pictures.labels[picture])]
        return (
            f"A map of {len(pictures)} pictures by their {space} at perplexity {perplexity}, seed {seed}; "
            f"picture {picture}, {name}, is ringed, and shown beside its neighbours on the map."
        )

    return panel(draw, alt, space=space, perplexity=perplexity, seed=seed, picture=picture)
