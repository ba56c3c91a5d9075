"""Mark explanations right or wrong: against the truth, against the network, and against a network that knows nothing.

Every explanation answers the same question, "where in the picture does the network see this class?", and is brought
into one form, an ``Explainer``. The referee, ``score``, asks four kinds of questions:

- does it lie where the object is? ``pointing_game``, ``relevance_mass_accuracy``; and of this class?
  ``grids``
- does it tell which pixels the network needs? ``deletion``, ``insertion``
- does it tell which *parts* the network needs, which is known by taking them away? ``agreement``
- does it notice when the network forgets all it has learned? ``randomised``

It takes those of other libraries as they are::

    def captums(model, inputs, targets):
        return captum.attr.InputXGradient(model).attribute(inputs, target=targets)

    def torchcams(model, inputs, targets):
        with torchcam.methods.GradCAM(model, "relu4") as cam:
            return cam(targets.tolist(), model(inputs.requires_grad_()), normalized=False)[0]

    print(score(captums, model, critters.twins(120, 64, seed=5)))

Three explainers look at no network at all, ``constant``, ``centre_gaussian`` and ``edges``: one that is
worth its price beats them.
"""

from lessons_lib.methods.evaluation.explainers import (
    Explainer,
    cam_map,
    centre_gaussian,
    constant,
    deconvnet_map,
    edges,
    explain,
    grad_cam_map,
    gradient_map,
    guided_backpropagation_map,
    occlusion_map,
    rise,
)
from lessons_lib.methods.evaluation.perturbation import Curve, deletion, insertion, ranking
from lessons_lib.methods.evaluation.pointing import Grids, grids, pointing_game, relevance_mass_accuracy
from lessons_lib.methods.evaluation.randomisation import layers_with_weights, randomised, rank_correlation
from lessons_lib.methods.evaluation.referee import (
    SMALL_IS_GOOD,
    Scores,
    agreement,
    part_effects,
    part_masses,
    part_places,
    score,
)

__all__ = [
    "SMALL_IS_GOOD", "Curve", "Explainer", "Grids", "Scores", "agreement", "cam_map", "centre_gaussian",
    "constant", "deconvnet_map", "deletion", "edges", "explain", "grad_cam_map", "gradient_map", "grids",
    "guided_backpropagation_map", "insertion", "layers_with_weights", "occlusion_map", "part_effects",
    "part_masses", "part_places", "pointing_game", "randomised", "rank_correlation", "ranking",
    "relevance_mass_accuracy", "rise", "score",
]  # fmt: skip
