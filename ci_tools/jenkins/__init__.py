"""Jenkins: one connection to a controller, and what is asked of it through that.

connection    a session that is right about time-outs, crumbs, refusals and restarts
credentials   who we are: from the environment, netrc or a keyring
queue         from a request to a build's number
builds        jobs, their parameters, and what a build is doing
console       its text as it comes, and the stages in it
artifacts     its files, fetched whole or not at all
"""
