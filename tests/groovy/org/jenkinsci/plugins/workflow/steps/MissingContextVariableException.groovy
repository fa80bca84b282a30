package org.jenkinsci.plugins.workflow.steps

/** A step that needs an agent ran on none. */
class MissingContextVariableException extends Exception {
    MissingContextVariableException(String step) {
        super("Required context class hudson.FilePath is missing: step '${step}' runs on no agent")
    }
}
