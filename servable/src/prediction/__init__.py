"""The prediction service: serves one verified model over HTTP."""

__version__ = "1.0.0"
