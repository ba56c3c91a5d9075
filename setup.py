"""What pyproject.toml cannot say: a wheel carries the shipped networks and the records, as lessons_lib/shipped."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lessons_lib*"]), "lessons_lib.shipped"],
    package_dir={"lessons_lib.shipped": "data"},
    package_data={"lessons_lib.shipped": ["checkpoints/*/*", "records/*.json"]},
)
