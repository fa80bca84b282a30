"""Prediction services on ECS Fargate.

declaration       servable.yaml
task_definition   what ECS is asked for           (pure)
comparison        when two definitions are equal  (pure)
live              what runs, what would change    (pure)
rollout           what became of a deployment     (pure)
cluster, aws      the ECS API
smoke             requests to a new revision
ecs               PredictionServices: deploy, prove, or go back
"""
