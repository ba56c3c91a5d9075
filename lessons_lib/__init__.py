"""The library behind the lessons: data, models, and one module for each way of looking inside a network.

Imports run one way: widgets → plots → methods → recipes → training → models → data → course.
"""
