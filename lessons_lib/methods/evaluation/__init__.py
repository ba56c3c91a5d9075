"""Mark explanations right or wrong: against the truth, against the network, and against a network that knows nothing.

The referee, ``score``, takes any callable ``(model, inputs, targets) → maps``, an ``Explainer``: one of captum, one of
torchcam, one of your own.

>>> import torch
>>> from captum.attr import InputXGradient
>>> from torchcam.methods import GradCAM
>>> from lessons_lib.data import critters
>>> from lessons_lib.methods.evaluation import score
>>> from lessons_lib.models import ChainCNN, checkpoints
>>> def by_captum(model, inputs, targets):
...     return InputXGradient(model).attribute(inputs.requires_grad_(), target=targets)
>>> def by_torchcam(model, inputs, targets):
...     with GradCAM(model, "relu4") as cam:
...         logits = model(inputs.requires_grad_())
...         return cam(targets.tolist(), logits, normalized=False)[0]
>>> def yours(model, inputs, targets):
...     logits = model(inputs.requires_grad_())[range(len(targets)), targets]
...     return torch.autograd.grad(logits.sum(), inputs)[0].abs().amax(1)
>>> network = checkpoints.restore(ChainCNN(), "chain_cnn_critters")
>>> scenes = critters.twins(20, 64, seed=5)
>>> for method in (by_captum, by_torchcam, yours):
...     found = score(method, network, scenes, steps=4).intervals
...     print(f"{method.__name__:11} mass {found['mass']}, grid {found['grid']}")
by_captum   mass 0.69 [0.64, 0.74], grid 0.33 [0.31, 0.36]
by_torchcam mass 0.74 [0.71, 0.78], grid 0.74 [0.70, 0.78]
yours       mass 0.60 [0.55, 0.66], grid 0.29 [0.26, 0.31]

Every explanation answers the same question, "where in the picture does the network see this class?". The referee asks
four kinds of questions about it, and there is a function for each:

- does it lie where the object is? ``pointing_game``, ``relevance_mass_accuracy``; and of this class? ``grids``
- does it tell which pixels the network needs? ``deletion``, ``insertion``
- does it tell which *parts* the network needs, which is known by taking them away? ``agreement``
- does it notice when the network forgets all it has learned? ``randomised``

Three explainers look at no network at all, ``constant``, ``centre_gaussian`` and ``edges``: one that is worth its price
beats them. ``score`` needs scenes whose parts can be taken away; for pictures of your own, call these functions one by
one.
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
