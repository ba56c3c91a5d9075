"""Mark explanations right or wrong: against the truth, against the network, and against a network that knows nothing.

Every explanation of the course answers the same question, "where in the picture does the network see this class?",
and is brought here into one form, an :data:`Explainer`. Three kinds of questions are asked of it:

- does it lie where the object is? :func:`pointing_game`, :func:`relevance_mass_accuracy`; and of this class?
  :func:`grids`
- does it tell which pixels the network needs? :func:`deletion`, :func:`insertion`
- does it notice when the network forgets all it has learned? :func:`parameter_randomisation_test`

Two explainers look at no network at all, :func:`centre_gaussian` and :func:`edges`: one that is worth its price beats
them.
"""

from lessons_lib.methods.evaluation.explainers import (
    Explainer,
    cam_map,
    centre_gaussian,
    deconvnet_map,
    edges,
    explain,
    grad_cam_map,
    gradient_map,
    guided_backpropagation_map,
    occlusion_map,
)
from lessons_lib.methods.evaluation.perturbation import Curve, deletion, insertion, ranking
from lessons_lib.methods.evaluation.pointing import Grids, grids, pointing_game, relevance_mass_accuracy
from lessons_lib.methods.evaluation.randomisation import (
    Randomisation,
    parameter_randomisation_test,
    randomised,
    rank_correlation,
    structural_similarity,
)

__all__ = [
    "Curve",
    "Explainer",
    "Grids",
    "Randomisation",
    "cam_map",
    "centre_gaussian",
    "deconvnet_map",
    "deletion",
    "edges",
    "explain",
    "grad_cam_map",
    "gradient_map",
    "grids",
    "guided_backpropagation_map",
    "insertion",
    "occlusion_map",
    "parameter_randomisation_test",
    "pointing_game",
    "randomised",
    "rank_correlation",
    "ranking",
    "relevance_mass_accuracy",
    "structural_similarity",
]
