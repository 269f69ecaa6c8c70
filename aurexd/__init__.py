"""aurexd: a real-time gold price daemon."""

__version__ = "0.1.0"
