"""Jenkins: one connection to a controller, and what is asked of it through that.

connection    a session that is right about time-outs, crumbs, refusals and restarts
credentials   who we are: from the environment, netrc or a keyring
queue         from a request to a build's number
builds        jobs, their parameters, and what a build is doing
console       its text as it comes, and the stages in it
artifacts     its files, fetched whole or not at all
job_xml       the multibranch job's configuration, from its declaration
job_change    what Jenkins has of it, and what becomes of that
jobs          configurations read and written; plugins, credentials and agents looked at
plugins       which are needed, and which are there
bindings      the credentials that the Jenkinsfile binds
seed          the job as Job DSL and as Configuration as Code
"""
