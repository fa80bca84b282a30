package harness

import hudson.AbortException
import hudson.model.Result
import org.jenkinsci.plugins.credentialsbinding.impl.CredentialNotFoundException
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.jenkinsci.plugins.workflow.steps.MissingContextVariableException

/** Steps with a body: what is around it, how often it runs, what becomes of its failure. */
class BlockSteps {
    final World world
    final JenkinsScript script

    BlockSteps(World world, JenkinsScript script) {
        this.world = world
        this.script = script
    }

    def do_script(Map named, value, Closure body) { body.call() }

    def do_node(Map named, value, Closure body) { world.onNode((named.label ?: value) as String, body) }

    def do_withEnv(Map named, value, Closure body) {
        def pairs = (named.overrides ?: value) as List
        def variables = pairs.collectEntries { pair ->
            def text = pair as String
            int at = text.indexOf('=')
            if (at < 1) { throw new IllegalArgumentException("withEnv: '${text}' is not NAME=VALUE") }
            [text.substring(0, at), text.substring(at + 1)]
        }
        world.around([variables: variables], body)
    }

    def do_withCredentials(Map named, value, Closure body) {
        def store = (world.scenario.credentials ?: []) as List
        def variables = [:]
        def ids = [:]
        ((named.bindings ?: value) as List).each { binding ->
            def id = binding.credentialsId as String
            if (!(id in store)) { throw new CredentialNotFoundException(id) }
            if (binding.symbol == 'file') { world.node('withCredentials(file)') }
            binding.each { key, name ->
                if (key == 'variable' || key.toString().endsWith('Variable')) {
                    variables[name as String] = "(${key} of ${id})".toString()
                    ids[name as String] = id
                }
            }
        }
        world.log(event: 'credentials', ids: ids.values().toUnique(), variables: ids)
        world.around([variables: variables, credentials: ids], body)
    }

    def do_timeout(Map named, value, Closure body) {
        def units = [SECONDS: 1 / 60, MINUTES: 1, HOURS: 60, DAYS: 1440]
        def unit = (named.unit ?: 'MINUTES') as String
        if (!units.containsKey(unit)) { throw new IllegalArgumentException("timeout: unknown unit ${unit}") }
        int own = world.timeouts.size()
        world.timeouts << [scope: world.stages ? world.stages.last() : '(pipeline)', minutes: ((named.time ?: value) as BigDecimal) * units[unit]]
        try {
            body.call()
        } catch (FlowInterruptedException error) {
            // Whoever is around it sees a failure, not an interruption of his own.
            if (error.kind == 'timeout' && error.depth == own) { error.actualInterruption = false }
            throw error
        } finally {
            world.timeouts.removeAt(world.timeouts.size() - 1)
        }
    }

    /** Without conditions all but interruptions are retried; with agent(), only what a lost agent causes. */
    def do_retry(Map named, value, Closure body) {
        int count = (named.count ?: value) as int
        for (int attempt = 1; ; attempt++) {
            try {
                return body.call()
            } catch (Throwable error) {
                if (attempt >= count || !again(error, named.conditions as List)) { throw error }
                world.log(event: 'retry', attempt: attempt, reason: error.message)
            }
        }
    }

    private static boolean again(Throwable error, List conditions) {
        def interruption = error instanceof FlowInterruptedException ? error : null
        boolean lost = interruption?.kind == 'agent' || error instanceof MissingContextVariableException
        if (conditions != null) { return lost && conditions.any { it.symbol == 'agent' } }
        interruption == null || lost || !interruption.actualInterruption
    }

    def do_parallel(Map named, value, Closure body) {
        def branches = named.findAll { it.key != 'failFast' }
        Throwable first = null
        world.log(event: 'parallel', branches: branches.keySet() as List)
        branches.each { name, branch ->
            world.branches << (name as String)
            world.log(event: 'branch', name: name as String)
            try {
                (branch as Closure).call()
            } catch (Throwable error) {
                first = first == null || resultOf(error).isWorseThan(resultOf(first)) ? error : first
            } finally {
                world.branches.removeAt(world.branches.size() - 1)
            }
        }
        if (first != null) { throw first }
    }

    def do_stage(Map named, value, Closure body) {
        world.stages << ((named.name ?: value) as String)
        try { body.call() } finally { world.stages.removeAt(world.stages.size() - 1) }
    }

    def do_catchError(Map named, value, Closure body) {
        try {
            body.call()
        } catch (Throwable error) {
            boolean interrupted = error instanceof FlowInterruptedException
            if (interrupted && named.catchInterruptions == false && error.actualInterruption) { throw error }
            // An interruption keeps its own result, whatever was asked for.
            def becomes = interrupted ? error.result : Result.fromString((named.buildResult ?: 'FAILURE') as String)
            if (becomes != Result.SUCCESS) { world.worsen(becomes) }
            world.log(event: 'caught', error: error.toString(), result: becomes.toString(),
                stageResult: (interrupted ? error.result : named.stageResult ?: 'SUCCESS') as String)
        }
    }

    def do_warnError(Map named, value, Closure body) {
        do_catchError([buildResult: 'UNSTABLE', stageResult: 'UNSTABLE', catchInterruptions: named.catchInterruptions], null, body)
    }

    def do_lock(Map named, value, Closure body) {
        def name = (named.resource ?: named.label ?: value) as String
        world.log(event: 'lock', name: name, held: world.nodes.size())
        try { world.around([lock: name], body) } finally { world.log(event: 'unlock', name: name) }
    }

    def do_dir(Map named, value, Closure body) {
        def node = world.node('dir')
        def before = node.workspace
        node.workspace = world.path((named.path ?: value) as String)
        try { body.call() } finally { node.workspace = before }
    }

    def do_timestamps(Map named, value, Closure body) { body.call() }

    def do_ansiColor(Map named, value, Closure body) { world.around([variables: [TERM: (named.colorMapName ?: value) as String]], body) }

    static Result resultOf(Throwable error) { error instanceof FlowInterruptedException ? error.result : Result.FAILURE }
}
