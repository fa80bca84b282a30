"""A release into an environment, whole or not at all.

gate      whether it may go there                       (pure)
journal   how far a promotion is, here and elsewhere
engine    steps forward, and back                       (knows no step)
records   what was promoted, and what the environment runs
signed    whether a record is to be believed
lease     one promotion of an environment at a time
claims    between machines, in the registry; bucket_claims, s3_slot: in S3
compare   what differs between two releases             (pure)
"""
