"""The parts of `promote` and `rollback` that touch the world.

target    an environment, and where releases for it come from
facts     what the gate asks for
turn      what is unfinished, who is at it, the lock
wanted    a release as the environment names it
steps     forward: images, release, pipelines, services, record
ways      back, from what the journal says alone
undoing   all of them, and the record of it
services  the prediction services as steps need them
plan      what would be done
promoted  what an environment runs
"""
