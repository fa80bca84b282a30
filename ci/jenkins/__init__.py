"""Stages around Jenkins.

target, start, follow, looking, interruption   drive a controller from outside
setup, ready                                   make its job, and see what that lacks
agents, describing                             are asked by the Jenkinsfile, inside of it
"""
