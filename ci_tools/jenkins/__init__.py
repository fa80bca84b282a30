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

What the Jenkinsfile itself asks of the stages needs no controller:
results       exit code -> what Jenkins calls the build (pure)
describe      a build's name and description
"""
