"""The library behind the lessons: data, models, and one module for each way of looking inside a network.

Where to look: ``networks`` runs a network and looks inside it, ``statistics`` says what a sample says, ``training``
stands on both; ``methods/X``, ``plots/X`` and ``widgets/X`` are the technique, the figures and the panel of a lesson.
What no lesson teaches lies apart: ``incremental`` (fast occlusion), ``drawing`` (Critters), ``finetune`` (your own
pictures, on the command line), ``export`` (a network for other programs), ``recipes``, ``records`` (of what takes
long), ``runner`` and ``comparison`` (the stored notebooks).

Imports run one way: runner → finetune → widgets → plots → methods → incremental → recipes → export → training →
networks → models → data → drawing → statistics, records, exercises, course, comparison,
checks.
"""
