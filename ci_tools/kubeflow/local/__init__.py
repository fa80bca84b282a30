"""Kubeflow's own rules for running a compiled pipeline, on this machine's engine.

The model is the backend of Kubeflow Pipelines: its driver (which values a task
gets, whether it runs), its compiler to Argo (in which order, how often) and its
launcher (what a step sees and what it must leave behind). kfp is not imported.

    dag            which task runs when: branches, loops, conditions, exit tasks
    resolve        a task's inputs and a graph's outputs
    cel            conditions and selectors
    placeholders   `{{$...}}` in a command
    messages       what a step is told, and what it must leave
    step           one attempt of one step
    limits         quantities, and what of them this machine has
    platform       what kfp-kubernetes asks of a cluster
    supported      what is refused before anything starts
"""
