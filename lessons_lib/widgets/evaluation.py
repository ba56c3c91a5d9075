"""The panel of lesson 11: take a part away, and see what the network says and where a map lies."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import nn

from lessons_lib.data.critters import Twins
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.evaluation import Explainer, explain
from lessons_lib.networks import predict
from lessons_lib.plots.evaluation import side_by_side
from lessons_lib.widgets import panel


def twin_view(model: nn.Module, twins: Twins, index: int, part: str, explainer: Explainer) -> Figure:
    """A scene and its twin without a part, the logit of the true class, and the map of both.

    Args:
        model: a classifier of these scenes' species, in their order.
        twins: scenes, and the same without one part each.
        index: which scene.
        part: which part is gone in the second row.
        explainer: gives the maps.

    Raises:
        KeyError: if there are no twins without this part.
    """
    images = torch.stack([twins.scenes.images[index], twins.without[part].images[index]])
    target = int(twins.scenes.labels[index])
    whole, without = predict(model, images)[:, target].tolist()
    names = f"whole\nlogit {whole:.1f}", f"no {part}\nlogit {without:.1f}".replace("_", " ")
    figure = side_by_side(images, {"map": explain(explainer, model, to_input(images), target)}, names)
    figure.set_size_inches(4.8, 4.8)
    return figure


def twin_panel(
    models: Mapping[str, nn.Module], twins: Twins, explainers: Mapping[str, Explainer]
) -> ipywidgets.VBox:
    """Choose a scene, a part to take away, a network and a method.

    Args:
        models: the networks by name.
        twins: the scenes to choose from, and their twins.
        explainers: the methods by name.
    """
    species = [twins.scenes.classes[label] for label in twins.scenes.labels.tolist()]

    def draw(scene: int, part: str, network: str, method: str) -> Figure:
        return twin_view(models[network], twins, scene, part, explainers[method])

    def alt(scene: int, part: str, network: str, method: str) -> str:
        return f"A {species[scene]}, whole and without its {part}, each with the map of {method} for network {network}."

    scenes = [(f"{i + 1}: {name}", i) for i, name in enumerate(species)]
    options = {"scene": scenes, "part": twins.without, "network": models, "method": explainers}
    controls = {name: ipywidgets.Dropdown(options=list(offered)) for name, offered in options.items()}
    return panel(draw, alt, **controls)
