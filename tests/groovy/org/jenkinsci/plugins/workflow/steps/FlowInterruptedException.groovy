package org.jenkinsci.plugins.workflow.steps

import hudson.model.Result

/** A time-out, a person or a lost agent ended a step. */
class FlowInterruptedException extends InterruptedException {
    Result result
    List causes = []
    /** What ended it: 'timeout', 'user', 'agent' or 'input'. */
    String kind
    /** For a time-out: how many time-outs were around the one that fired. */
    int depth
    /** Whether it was meant for the steps around, too: a person's abort, not an inner time-out or a refusal. */
    boolean actualInterruption = true

    FlowInterruptedException(Result result, Object... causes) {
        super("interrupted: ${causes.join(', ')}")
        this.result = result
        this.causes = causes as List
    }

    static FlowInterruptedException of(Result result, String kind, int depth = 0) {
        def interruption = new FlowInterruptedException(result, kind)
        interruption.kind = kind
        interruption.depth = depth
        interruption.actualInterruption = kind in ['user', 'timeout']
        interruption
    }
}
