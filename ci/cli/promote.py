"""The commands that bring a release into an environment, or an older one back."""

from __future__ import annotations
