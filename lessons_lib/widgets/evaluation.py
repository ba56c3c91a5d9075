"""The panel of lesson 11: take a part away, and see what the network says and where a map lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lessons_lib.data.critters import Twins
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.evaluation import Explainer, agreement, explain, part_effects, part_masses
from lessons_lib.networks import predict
from lessons_lib.plots.evaluation import side_by_side
from lessons_lib.widgets.face import Face, pixels


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


def twin_panel(models: Mapping[str, nn.Module], twins: Twins, explainers: Mapping[str, Explainer]) -> Face:
    """Choose a scene, a part to take away and a network; see the maps of all methods, of the scene and its twin.

    Args:
        models: the networks by name, classifiers of these scenes' species, in their order.
        twins: the scenes to choose from, and their twins.
        explainers: the methods by name.
    """
    classes, labels, names = twins.scenes.classes, twins.scenes.labels.tolist(), list(twins.without)

    def images(scene: int, part: str) -> Tensor:
        return torch.stack([twins.scenes.images[scene], twins.without[part].images[scene]])

    @cache
    def alone(scene: int) -> Twins:
        own = slice(scene, scene + 1)
        return Twins(
            twins.scenes.subset(own), {part: twin.subset(own) for part, twin in twins.without.items()}
        )

    @cache
    def effects(scene: int, network: str) -> Tensor:
        return part_effects(models[network], alone(scene))

    @cache
    def maps(scene: int, part: str, network: str, method: str) -> Tensor:
        return explain(
            explainers[method], models[network], to_input(images(scene, part)), labels[scene]
        ).float()

    def seen(scene: int, part: str, network: str) -> dict[str, Any]:
        pair = images(scene, part)
        whole, without = map(pixels, pair)
        return {
            "whole": whole["pixels"],
            "without": without["pixels"],
            "height": pair.shape[2],
            "width": pair.shape[3],
            "label": labels[scene],
            "logits": predict(models[network], pair).float(),
        }

    def parts(scene: int, network: str) -> dict[str, Any]:
        whole = [maps(scene, names[0], network, method)[:1] for method in explainers]
        sums = torch.cat([part_masses(one, alone(scene)) for one in whole])
        agree = agreement(sums, effects(scene, network).expand_as(sums))
        return {
            "effects": effects(scene, network)[0].float(),
            "sums": sums.float(),
            "agreement": agree.float(),
        }

    about = {"scenes": [classes[label] for label in labels], "names": names, "networks": list(models)}
    about |= {"methods": list(explainers), "classes": list(classes)}
    answers: dict[str, Callable[..., Any]] = {
        "twins": seen,
        "maps": lambda scene, part, network, method: {"maps": maps(scene, part, network, method)},
        "parts": parts,
    }
    return Face("evaluation", about, answers)
