"""Transfer learning: reuse a trained network for another task, and measure which way of reusing it pays.

J. Yosinski et al., "How transferable are features in deep neural networks?" (NeurIPS 2014); S. Kornblith et al.,
"Do Better ImageNet Models Transfer Better?" (CVPR 2019). ``python -m lessons_lib.finetune --data FOLDER``
fine-tunes a network on folders of your own pictures.
"""

from lessons_lib.methods.transfer import sources
from lessons_lib.methods.transfer.finetuning import (
    Transfer,
    discriminative,
    head_from_classes,
    head_from_probe,
    layers_up_to,
    learnable,
    slower_body,
    transfer,
    with_old_head,
)
from lessons_lib.methods.transfer.probes import Probe, frechet
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
    "head_from_classes",
    "head_from_probe",
    "judge",
    "layers_up_to",
    "learnable",
    "learning_curves",
    "mapped",
    "per_class",
    "slower_body",
    "sources",
    "transfer",
    "with_old_head",
]
