"""Jenkins: one connection to a controller, and what is asked of it through that.

connection    a session that is right about time-outs, crumbs and restarts
refusals      which of our errors an answer is that is none
credentials   who we are: from the environment, netrc or a keyring
address       names of jobs and branches, and their paths in URLs (pure)
queue         from a request to a build's number
builds        jobs, their parameters, and what a build is doing
console       a build's text as it comes, as lines that harm no terminal
marks         the stages in that text (pure)
artifacts     a build's files, fetched whole or not at all
linter        the controller's check of a Jenkinsfile

The job itself, made and kept right:
job_xml       the multibranch job's configuration, from its declaration
job_change    what Jenkins has of it, and what becomes of that
jobs          configurations read and written; plugins, credentials and agents looked at
plugins       which are needed, and which are there
bindings      the credentials that the Jenkinsfile binds
seed          the job as Job DSL and as Configuration as Code

What the Jenkinsfile asks of the stages needs no controller:
results       exit code -> what Jenkins calls the build (pure)
describe      a build's name and description
"""
