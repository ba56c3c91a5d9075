"""``python -m tests.records.trust_explanations``: the referee's table of lesson 11, a row a method and network.

Three networks (``lessons_lib.models.ChainCNN``, 3,000 Critters of ten species at 64 pixels, ten epochs, another
seed each) are asked about the same 120 scenes. A row of study *effects* says what taking a part away costs a network, a
row of study *scores* how an explanation of it scores, and by how much, in pairs, it leads the edge detector; a row of
study *watermark* how a text across photographs moves EfficientNet-Lite0's probability of *carton*. About six minutes
of one core; it resumes.
"""

from __future__ import annotations

import copy
import math
import warnings
from functools import cache, partial

import torch
from captum.attr import (
    LRP,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam import methods as torchcam

from lessons_lib import models, networks, records, training
from lessons_lib.data import critters, photos
from lessons_lib.methods import evaluation
from lessons_lib.methods.evaluation import Explainer, Scores
from lessons_lib.models import imagenet
from lessons_lib.records import Row
from lessons_lib.statistics import Interval, bootstrap_interval, share_interval

NAME, SEEDS, SIZE, SCENES = "11_trust_explanations", range(3), 64, 120


def _captum(method: type, by_size: bool = False, **options: object) -> Explainer:
    """A method of captum; with ``by_size`` its greatest size over the colours, else the sum over them."""

    def explain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        found = method(copy.deepcopy(model)).attribute(inputs, target=targets, **options)
        return found.abs().amax(1) if by_size else found

    return explain


def _smoothgrad(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    torch.manual_seed(0)  # the noise is 15 % of the inputs' range; D. Smilkov et al. (2017) advise 10–20 %
    tunnel = NoiseTunnel(Saliency(model))
    found = tunnel.attribute(
        inputs, nt_type="smoothgrad", nt_samples=25, stdevs=0.3, target=targets, abs=False
    )
    return found.abs().amax(1)


def _lrp(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    model = copy.deepcopy(model)  # with ε everywhere it would be input × gradient again
    for name, layer in model.named_children():
        layer.rule = GammaRule() if name.startswith("conv") else EpsilonRule()
    return LRP(model).attribute(inputs, target=targets)


def _torchcam(method: type, layer: str) -> Explainer:
    def explain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad(), method(model, layer) as extractor:
            logits = model(inputs.clone().requires_grad_())
            return extractor(targets.tolist(), logits, normalized=False)[0]

    return explain


def _hirescam(layer: str) -> Explainer:
    def explain(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with HiResCAM(model, [model.get_submodule(layer)]) as extractor:
            return torch.from_numpy(extractor(inputs, [ClassifierOutputTarget(k) for k in targets.tolist()]))

    return explain


def _random(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return torch.rand(len(inputs), *inputs.shape[2:], generator=torch.Generator().manual_seed(0))


METHODS: dict[str, Explainer] = {
    "occlusion": evaluation.occlusion_map(16, 4),
    "RISE": evaluation.rise(400),
    "gradient": _captum(Saliency, by_size=True),
    "input × gradient": _captum(InputXGradient),
    "SmoothGrad": _smoothgrad,
    "integrated gradients, from grey": _captum(IntegratedGradients, baselines=0.0, n_steps=32),
    "integrated gradients, from black": _captum(IntegratedGradients, baselines=-1.0, n_steps=32),
    "LRP, γ and ε": _lrp,
    "guided backpropagation": _captum(GuidedBackprop, by_size=True),
    "deconvnet": evaluation.deconvnet_map,
    "CAM": evaluation.cam_map,
    "Grad-CAM, last layer": _torchcam(torchcam.GradCAM, "relu4"),
    "Grad-CAM": _torchcam(torchcam.GradCAM, "relu3"),
    "Grad-CAM++": _torchcam(torchcam.GradCAMpp, "relu3"),
    "Score-CAM": _torchcam(torchcam.ScoreCAM, "relu3"),
    "Layer-CAM": _torchcam(torchcam.LayerCAM, "relu3"),
    "HiResCAM": _hirescam("relu3"),
    "edges": evaluation.edges,
    "centre": evaluation.centre_gaussian,
    "constant": evaluation.constant,
    "random": _random,
}
# the watermark of ImageNet-W, other Chinese words, and as controls Japanese and Latin letters, a word, and a bar
TEXTS = ("捷径捷径捷径", "捷径", "東西南北東西", "ひらがなひら", "ＡＢＣＡＢＣ", "CARTON", "■■■■■■")
BASELINES = ("edges", "centre", "constant", "random")


@cache
def twins() -> critters.Twins:
    """The scenes that all networks and methods are asked about."""
    return critters.twins(SCENES, SIZE, seed=5)


@cache
def network(seed: int) -> nn.Module:
    """One of the three networks."""
    torch.manual_seed(seed)
    model = models.ChainCNN(len(critters.SPECIES))
    settings = training.Settings(
        epochs=10, batch_size=32, learning_rate=6e-3, warmup=0.15, translate=4, seed=seed
    )
    held_out = critters.generate(160, SIZE, seed=2)
    training.fit(model, critters.generate(3_000, SIZE, seed=1), held_out, settings, progress=False)
    return model.eval()


@cache
def scores(seed: int, method: str) -> Scores:
    """What a method scores on a network."""
    return evaluation.score(METHODS[method], network(seed), twins())


def row(interval: Interval | None) -> list[float] | None:
    """An interval as a list: mean, low, high."""
    return interval and [
        round(float(value), 4) + 0.0 for value in (interval.mean, interval.low, interval.high)
    ]


def scored(seed: int, method: str) -> Row:
    """The intervals of a method's scores, and of what it leads the edge detector by."""
    found, edges = scores(seed, method), scores(seed, "edges")
    lead = {
        metric: row(bootstrap_interval(values - edges.values[metric]))
        for metric, values in found.values.items()
    }
    parts = tuple(twins().without)
    lost, masses, positive = (
        evaluation.part_effects(network(seed), twins()),
        evaluation.part_masses(found.maps, twins()),
        evaluation.part_masses(found.maps.clamp(min=0), twins()),
    )
    face = [parts.index(part) for part in parts if part != "background"]
    variants = {
        "positive mass only": evaluation.agreement(positive, lost),
        "without the background": evaluation.agreement(masses[:, face], lost[:, face]),
        "mean instead of sum": evaluation.agreement(
            masses / evaluation.part_places(twins()).sum((2, 3)), lost
        ),
    }
    return {
        "grids": len(found.values["grid"]),
        "scores": {metric: row(interval) for metric, interval in found.intervals.items()},
        "parts_otherwise": {name: row(bootstrap_interval(values)) for name, values in variants.items()},
        "over_edges": lead,
    }


def effects(seed: int) -> Row:
    """What taking a part away costs the true class: of its logit, of its probability, and how many right answers."""
    scenes, found = twins().scenes, evaluation.part_effects(network(seed), twins())
    logits = networks.predict(network(seed), scenes.images)
    own, right = (range(SCENES), scenes.labels), logits.argmax(1) == scenes.labels
    parts = {}
    for effect, (part, twin) in zip(found.T, twins().without.items(), strict=True):
        there = ~effect.isnan()
        without = networks.predict(network(seed), twin.images)
        fall = (logits.softmax(1)[own] - without.softmax(1)[own])[there].double()
        lost = int((right & there & (without.argmax(1) != scenes.labels)).sum())
        parts[part] = {
            "scenes": int(there.sum()),
            "logit": row(bootstrap_interval(effect)),
            "probability": row(bootstrap_interval(fall)),
            "lost": row(share_interval(lost, int((right & there).sum()))),
        }
    return {"right": int(right.sum()), "of": SCENES, "parts": parts}


def watermarked(text: str) -> Row:
    """What EfficientNet-Lite0 says of the labelled photographs with a text across them, and without."""
    lite, pictures = lite0(), photographs()
    marked = torch.stack([photos.watermark(picture, text) for picture in pictures])
    labels = torch.tensor([photos.photo(name).label for name in photos.LABELLED])
    with torch.no_grad():
        before, after = (lite.model(lite.normalise(stack)).softmax(1) for stack in (pictures, marked))
    carton = lite.categories.index("carton")
    ratios = after[:, carton] / before[:, carton]
    mean = bootstrap_interval(ratios.double().log())
    return {
        "of": len(pictures),
        "rose": int((ratios > 1).sum()),
        "ratios": [round(value, 3) for value in ratios.tolist()],
        "geometric_mean": [round(math.exp(value), 2) for value in (mean.mean, mean.low, mean.high)],
        "probability": [round(stack[:, carton].mean().item(), 6) for stack in (before, after)],
        "other_answer": int((before.argmax(1) != after.argmax(1)).sum()),
        "right": [int((stack.argmax(1) == labels).sum()) for stack in (before, after)],
    }


@cache
def lite0() -> imagenet.ImageNetClassifier:
    """The network of the watermark."""
    return imagenet.load()


@cache
def photographs() -> Tensor:
    """All photographs whose class is known, as its pictures."""
    return torch.stack([photos.resized(photos.photo(name), lite0().size) for name in photos.LABELLED])


def table(rows: list[Row]) -> list[str]:
    """The scores as lines of Markdown: the mean of the networks, with the least and the most of them."""
    found = [one for one in rows if one["study"] == "scores"]
    metrics = list(found[0]["scores"])
    lines = [f"| map | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    for method in METHODS:
        own = [one["scores"] for one in found if one["method"] == method]
        cells = [[scores[metric][0] for scores in own] for metric in metrics]
        ends = [[sum(cell) / len(cell), min(cell), max(cell)] for cell in cells]
        shown = ["{:.2f} ({:.2f} to {:.2f})".format(*(round(end, 2) + 0.0 for end in cell)) for cell in ends]
        lines.append(f"| {method} | {' | '.join(shown)} |")
    return lines


def main() -> None:
    """Run what the record lacks."""
    warnings.simplefilter("ignore")  # captum's and torchcam's, on each call
    for text in TEXTS:
        found = records.once(NAME, {"study": "watermark", "text": text}, partial(watermarked, text))
        print(text, found["geometric_mean"], flush=True)
    for seed in SEEDS:
        found = records.once(NAME, {"study": "effects", "seed": seed}, partial(effects, seed))
        print("effects", seed, {part: values["logit"] for part, values in found["parts"].items()}, flush=True)
        for method in METHODS:
            key = {"study": "scores", "seed": seed, "method": method}
            print(
                seed,
                method,
                records.once(NAME, key, partial(scored, seed, method))["scores"]["parts"],
                flush=True,
            )
    print(*table(records.read(NAME)), sep="\n")


if __name__ == "__main__":
    main()
