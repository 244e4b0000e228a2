"""The one thing pyproject.toml cannot say: the packages found, plus the top-level `conf/` as set_cli.conf."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["set_cli", "set_cli.*"]), "set_cli.conf"])
