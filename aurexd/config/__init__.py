"""The configuration: `model.py` says what there is, `load.py` reads it, `check.py` judges it as a whole.

Read once, before anything starts; nobody looks at a file or the environment later.
"""

from aurexd.config.load import config_file, load
from aurexd.config.model import Config

__all__ = ["Config", "config_file", "load"]
