"""Transfer learning: reuse a trained network for another task, and measure which way of reusing it pays.

J. Yosinski et al., "How transferable are features in deep neural networks?" (NeurIPS 2014); S. Kornblith et al.,
"Do Better ImageNet Models Transfer Better?" (CVPR 2019). ``python -m lessons_lib.finetune --data FOLDER``
fine-tunes a network on folders of your own pictures.
"""

from lessons_lib.methods.transfer import sources
from lessons_lib.methods.transfer.finetuning import (
    Transfer,
    head_from_classes,
    head_from_probe,
    layers_up_to,
    slower_body,
    transfer,
)
from lessons_lib.methods.transfer.probes import Probe
from lessons_lib.methods.transfer.strategies import Decision, Scores, decide, per_class
