"""From a folder of text to a running mixture of experts: `coterie-experts --help`."""

__version__ = "0.1.0"
