"""The panel of lesson 11: take away what a map calls important, and see what the network says."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure
from torch import Tensor, nn

from lessons_lib.data.critters import PARTS, Critters
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.evaluation import Curve, Explainer, deletion, explain
from lessons_lib.networks import predict
from lessons_lib.plots.evaluation import removal
from lessons_lib.widgets import panel

STEPS = 20  # of the deletion curve


def removal_view(model: nn.Module, critters: Critters, index: int, explainer: Explainer, step: int) -> Figure:
    """One of the pictures, a map of its class, and the picture without what the map calls most important.

    Args:
        model: a classifier of these pictures, in the order of ``critters.classes``.
        critters: the pictures and where their animals are.
        index: which picture.
        explainer: gives the map.
        step: how many of :data:`STEPS` equal parts of the pixels are taken away.

    Raises:
        ValueError: if there is no such step.
    """
    return _drawn(critters, index, *_explained(model, critters, index, explainer), step)


def removal_panel(
    models: Mapping[str, nn.Module], critters: Critters, explainers: Mapping[str, Explainer]
) -> ipywidgets.VBox:
    """Choose a picture, a network and a method; take away more and more of what the method calls important.

    Args:
        models: the networks by name.
        critters: the pictures to choose from.
        explainers: the methods by name.

    Raises:
        ValueError: if there is nothing to choose from.
    """
    if not models or not explainers or not len(critters):
        raise ValueError("the panel needs at least one network, one picture and one method")
    known: dict[tuple[int, str, str], tuple[Tensor, Tensor, Curve]] = {}

    def look(index: int, network: str, method: str) -> tuple[Tensor, Tensor, Curve]:
        key = index, network, method
        if key not in known:
            known[key] = _explained(models[network], critters, index, explainers[method])
        return known[key]

    def draw(picture: int, network: str, method: str, taken: int) -> Figure:
        return _drawn(critters, picture, *look(picture, network, method), taken)

    def alt(picture: int, network: str, method: str, taken: int) -> str:
        curve = look(picture, network, method)[2]
        return (
            f"A {_name(critters, picture)}, the map of {method} for network {network}, the picture without the top "
            f"{taken / STEPS:.0%} of the map, and the probability of the class, "
            f"{curve.probabilities[0, taken]:.2f} now."
        )

    names = [(f"{i + 1}: {_name(critters, i)}", i) for i in range(len(critters))]
    return panel(
        draw,
        alt,
        picture=ipywidgets.Dropdown(options=names, value=0, description="picture"),
        network=ipywidgets.Dropdown(options=list(models), description="network"),
        method=ipywidgets.Dropdown(options=list(explainers), description="method"),
        taken=ipywidgets.IntSlider(value=4, max=STEPS, description="taken / 20"),
    )


def _name(critters: Critters, index: int) -> str:
    return critters.classes[int(critters.labels[index])]


def _explained(
    model: nn.Module, critters: Critters, index: int, explainer: Explainer
) -> tuple[Tensor, Tensor, Curve]:
    """The network's probabilities, the map and its deletion curve, of one picture."""
    image, target = critters.images[index : index + 1], critters.labels[index : index + 1]
    picture = to_input(image)
    shares = predict(model, image).softmax(1)[0]
    map = explain(explainer, model, picture, target)
    return shares, map[0], deletion(model, picture, map, target, steps=STEPS)


def _drawn(critters: Critters, index: int, shares: Tensor, map: Tensor, curve: Curve, step: int) -> Figure:
    background = critters.masks[index, PARTS.index("background")]
    answer = critters.classes[int(shares.argmax())]
    title = f"{_name(critters, index)}: it says {answer}, {shares.max():.2f}"
    return removal(critters.images[index], map, curve, step, mask=~background, title=title)
