"""Prediction services on ECS Fargate.

declaration, parts, strategy   servable.yaml, and what differs by environment
task_definition, service_settings   what ECS is asked for             (pure)
comparison, service_comparison      when two of them are equal        (pure)
live              what runs, what would change                        (pure)
rollout           what became of a deployment                         (pure)
revisions         which revisions there are, and which may go         (pure)
cluster, aws      the ECS API
preflight, asked, preflight_*   is all there that a deployment needs?
watch             waiting for our own deployment
settling, way_back   prove it and record it, or go back
autoscaling, afterwards   what follows a success
smoke             requests to a new revision
logs              what the containers wrote
ecs               PredictionServices: deploy, verify, diff, rollback, history
"""
