"""The configuration: `model.py` says what there is, `load.py` reads it, `check.py` judges it as a whole.

Read before anything starts, and again as a whole by a reload; nobody else looks at a file or the environment.
"""

from aurexd.config.load import config_file, load
from aurexd.config.model import Config

__all__ = ["Config", "config_file", "load"]
