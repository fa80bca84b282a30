"""Stages around Jenkins.

target, start, follow, looking, interruption   drive a controller from outside
agents, describing                             are asked by the Jenkinsfile, inside of it
"""
