"""Transfer learning: reuse a trained network for another task, and measure which way of reusing it pays.

J. Yosinski et al., "How transferable are features in deep neural networks?" (NeurIPS 2014); S. Kornblith et al.,
"Do Better ImageNet Models Transfer Better?" (CVPR 2019). ``python -m lessons_lib.methods.transfer --data FOLDER``
fine-tunes a network on folders of your own pictures.
"""

from lessons_lib.methods.heads import head_name
from lessons_lib.methods.transfer.finetuning import (
    Transfer,
    discriminative,
    keep_head,
    layers_up_to,
    learnable,
    slower_body,
    start_head,
    transfer,
    with_old_head,
)
from lessons_lib.methods.transfer.probes import Probe, frechet, frozen_features
from lessons_lib.methods.transfer.strategies import (
    ADVICE,
    EARLY,
    LATE,
    SCRATCH,
    STRATEGIES,
    TUNED,
    Decision,
    Probing,
    Scores,
    Similarity,
    Training,
    Verdict,
    decide,
    judge,
    learning_curves,
    mapped,
    over_seeds,
    per_class,
)

__all__ = [
    "ADVICE",
    "EARLY",
    "LATE",
    "SCRATCH",
    "STRATEGIES",
    "TUNED",
    "Decision",
    "Probe",
    "Probing",
    "Scores",
    "Similarity",
    "Training",
    "Transfer",
    "Verdict",
    "decide",
    "discriminative",
    "frechet",
    "frozen_features",
    "head_name",
    "judge",
    "keep_head",
    "layers_up_to",
    "learnable",
    "learning_curves",
    "mapped",
    "over_seeds",
    "per_class",
    "slower_body",
    "start_head",
    "transfer",
    "with_old_head",
]
