"""Draw what a class looks like to a network: climb its score, step by step, from a blank picture upwards.

K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models
and Saliency Maps" (2014, arXiv:1312.6034), §2: ``argmax_I S_c(I) − λ‖I‖²``, where S_c is the class's score before the
softmax. :func:`maximise_activation` climbs it ("activation maximization"). What else one may ask of the picture comes
in four kinds of small pieces, each a function of its own:

- a *penalty* is taken off the score: :func:`l2`, :func:`total_variation`;
- a *view* is what the network is shown in place of the picture, another one at each step: :func:`jitter`;
- a *constraint* changes the picture after a step: :func:`blur`, :func:`clip`;
- a *parametrisation* says which numbers are climbed in: :class:`Pixels`, :class:`Fourier`.
"""

from lessons_lib.methods.class_visualization.ascent import (
    Ascent,
    Score,
    log_probability,
    logit,
    maximise_activation,
    probability,
)
from lessons_lib.methods.class_visualization.parametrisations import (
    Fourier,
    Parametrisation,
    Pixels,
    natural_colours,
)
from lessons_lib.methods.class_visualization.pictures import (
    BLANKS,
    Blank,
    blank,
    displayed,
    power_spectrum,
    spectrum_slope,
)
from lessons_lib.methods.class_visualization.regularisers import (
    Constraint,
    Penalty,
    View,
    blur,
    clip,
    jitter,
    l2,
    total_variation,
)

__all__ = [
    "BLANKS",
    "Ascent",
    "Blank",
    "Constraint",
    "Fourier",
    "Parametrisation",
    "Penalty",
    "Pixels",
    "Score",
    "View",
    "blank",
    "blur",
    "clip",
    "displayed",
    "jitter",
    "l2",
    "log_probability",
    "logit",
    "maximise_activation",
    "natural_colours",
    "power_spectrum",
    "probability",
    "spectrum_slope",
    "total_variation",
]
