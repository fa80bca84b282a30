"""The stages of the pipeline, the verbs: `python -m ci --help`."""

__version__ = "0.1.0"
