"""Maps of embeddings."""

from __future__ import annotations

import torch
from sklearn.manifold import TSNE

from lessons_lib.data import cifar10
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.embeddings import nearest, trustworthiness, tsne
from tests.bench import Timing, benchmark, seconds
from tests.bench.data import installed_cifar10


@benchmark("tsne-10000")
def tsne_10000() -> Timing:
    """A map of CIFAR-10's 10,000 test pictures by their pixels, no less trustworthy than the lecture's."""
    installed_cifar10()
    test = cifar10.load("test")
    pixels = to_input(test.images).flatten(1)
    maps: dict[str, torch.Tensor] = {}

    def ours() -> None:
        maps["ours"] = tsne(pixels)

    def lecture() -> None:
        maps["lecture"] = torch.from_numpy(TSNE(n_components=2, random_state=0).fit_transform(pixels.numpy()))

    tsne(pixels[:200], iterations=2)  # loads the libraries
    ours_s, lecture_s = seconds(ours), seconds(lecture)
    trust = {name: trustworthiness(pixels, placed) for name, placed in maps.items()}
    votes = {name: test.labels[nearest(placed, 10)].mode(1).values for name, placed in maps.items()}
    right = {name: (named == test.labels).double().mean().item() for name, named in votes.items()}
    if trust["ours"] < trust["lecture"]:
        raise RuntimeError(f"our map is less trustworthy than the lecture's: {trust}")
    return Timing(
        ours_s,
        "scikit-learn's TSNE(n_components=2, random_state=0)",
        lecture_s,
        f"trustworthiness {trust['ours']:.3f} against {trust['lecture']:.3f}, "
        f"10-NN accuracy on the map {right['ours']:.3f} against {right['lecture']:.3f}",
    )
