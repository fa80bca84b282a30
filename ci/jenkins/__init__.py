"""Stages that drive a Jenkins controller: build, status, logs, artifacts, lint."""
