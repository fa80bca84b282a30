package harness

import hudson.model.Result
import org.jenkinsci.plugins.workflow.steps.MissingContextVariableException

/** Runs a Declarative pipeline in the order in which Jenkins does. */
class Engine {
    private static final List<String> PROPERTIES = [
        'buildDiscarder', 'disableConcurrentBuilds', 'disableResume', 'durabilityHint', 'overrideIndexTriggers',
        'skipDefaultCheckout', 'skipStagesAfterUnstable', 'preserveStashes', 'quietPeriod', 'parallelsAlwaysFailFast',
        'checkoutToSubdirectory', 'newContainerPerStage', 'rateLimitBuilds', 'disableRestartFromStage']
    private static final List<String> CONDITIONS = ['always', 'changed', 'fixed', 'regression', 'aborted', 'failure',
                                                    'success', 'unstable', 'unsuccessful', 'notBuilt', 'cleanup']
    final World world
    final JenkinsScript script
    final When when
    private final Steps steps
    private Stage root
    private Map<String, Map> properties = [:]

    Engine(World world, JenkinsScript script, Steps steps) {
        this.world = world
        this.script = script
        this.steps = steps
        when = new When(script, world)
    }

    void run(Closure body) {
        root = new Stage(name: '(pipeline)')
        def reader = SectionReader.read(body, new SectionReader(script, root))
        reader.parameters.each { Parameters.fill(world, SectionReader.read(it, new Recorder(script)).calls) }
        Throwable error = null
        boolean posted = false
        try {
            def options = optionsOf(root)
            properties = options.findAll { it.name in PROPERTIES }.collectEntries { [it.name, it] }
            world.log(event: 'options', options: options.collect { [name: it.name, named: it.named.collectEntries { k, v -> [k, v as String] }] })
            if (world.scenario.restart && !properties.containsKey('preserveStashes')) { world.stashes.clear() }
            onAgent(root) {
                inEnvironment(root) {
                    wrapped(options.findAll { !(it.name in PROPERTIES) }) {
                        error = sequence(root.stages, null, world.scenario.restart?.from as String)
                        posted = true
                        error = post(root, error)
                        if (error != null) { throw error }
                    }
                }
            }
        } catch (Throwable thrown) {
            failed(thrown)
            error = error ?: thrown
        } finally {
            if (!posted) { error = post(root, error) }
        }
        if (error != null) {
            world.log(event: 'error', error: error.toString(),
                at: error.stackTrace.findAll { it.fileName?.endsWith('.groovy') }.take(8)*.toString())
        }
    }

    private void failed(Throwable error) { world.worsen(BlockSteps.resultOf(error)) }

    private List<Map> optionsOf(Stage stage) {
        stage.options == null ? [] : SectionReader.read(stage.options, new Recorder(script)).calls
    }

    private Throwable sequence(List<Stage> stages, Throwable error, String restartFrom) {
        def waiting = restartFrom
        stages.each { stage ->
            if (waiting == stage.name) { waiting = null }
            try {
                single(stage, waiting != null ? 'restart' : error != null ? 'failure' : null)
            } catch (Throwable thrown) {
                failed(thrown)
                error = error ?: thrown
            }
        }
        error
    }

    private boolean skipsUnstable() { world.result == Result.UNSTABLE && properties.containsKey('skipStagesAfterUnstable') }

    private void single(Stage stage, String skipped) {
        world.stages << stage.name
        try {
            def why = skipped ?: (skipsUnstable() ? 'unstable' : null)
            if (why != null) {
                skip(stage, why)
                return
            }
            world.log(event: 'stage', outcome: 'entered', held: world.nodes.size())
            Throwable error = null
            boolean ran = true
            try {
                ran = gated(stage, 'beforeOptions') {
                    wrapped(optionsOf(stage).findAll { !(it.name in PROPERTIES) }) {
                        gated(stage, 'beforeInput') {
                            asked(stage) {
                                gated(stage, 'beforeAgent') {
                                    onAgent(stage) { gated(stage, null) { content(stage) } }
                                }
                            }
                        }
                    }
                }
            } catch (Throwable thrown) {
                failed(thrown)
                error = thrown
            }
            if (stage.parallel && ran) { error = post(stage, error) }
            if (ran || error != null) {
                world.log(event: 'stage', outcome: 'ran', error: error?.toString(), result: (world.result ?: 'SUCCESS').toString())
            }
            if (error != null) { throw error }
        } finally {
            world.stages.removeAt(world.stages.size() - 1)
        }
    }

    private void skip(Stage stage, String why) {
        world.log(event: 'stage', outcome: 'skipped', reason: why)
        (stage.stages ?: stage.parallel ?: []).each { child ->
            world.stages << child.name
            skip(child, why)
            world.stages.removeAt(world.stages.size() - 1)
        }
    }

    /** Evaluates `when` at this place if it is the one that its flags name; null is the last. True if the stage ran. */
    private boolean gated(Stage stage, String place, Closure body) {
        def flags = when.flags(stage.when)
        boolean here = stage.when != null && place == ['beforeOptions', 'beforeInput', 'beforeAgent'].find { it in flags }
        if (here) {
            def (outcome, seen) = when.evaluate(stage.when)
            world.log(event: 'when', outcome: outcome, at: place ?: 'agent', conditions: seen, held: world.nodes.size())
            if (!outcome) {
                skip(stage, 'when')
                return false
            }
        }
        def value = body.call()
        value instanceof Boolean ? value : true
    }

    private def wrapped(List<Map> options, Closure body) {
        if (!options) { return body.call() }
        def first = options.first()
        def answer = null
        steps.call(first.name as String, first.arguments + [{ answer = wrapped(options.tail(), body) }])
        answer
    }

    private def asked(Stage stage, Closure body) {
        if (stage.input == null) { return body.call() }
        def calls = SectionReader.read(stage.input, new Recorder(script)).calls
        def named = calls.findAll { it.name != 'parameters' }.collectEntries { [it.name, it.value] }
        def asked = calls.find { it.name == 'parameters' }
        if (asked) { named.parameters = SectionReader.read(asked.body as Closure, new Recorder(script)).calls.collect { it.named + [type: it.name] } }
        def answer = steps.call('input', [named])
        def names = (named.parameters ?: []).collect { it.name } + (named.submitterParameter ? [named.submitterParameter] : [])
        def variables = answer instanceof Map ? answer : names ? [(names[0]): answer] : [:]
        world.around([variables: variables], body)
    }

    private def onAgent(Stage stage, Closure body) {
        def agent = stage.agent
        if (agent == null || agent == 'none') { return body.call() }
        def calls = agent instanceof Closure ? SectionReader.read(agent, new Recorder(script)).calls : []
        def node = calls.find { it.name == 'node' }
        if (node) { calls = SectionReader.read(node.body as Closure, new Recorder(script)).calls + calls }
        def label = calls.find { it.name == 'label' }?.value as String
        if (agent instanceof Closure && label == null) { world.problem("agent: the harness knows only 'label': ${calls*.name}") }
        int attempts = (calls.find { it.name == 'retries' }?.value ?: 1) as int
        def answer = null
        def once = {
            world.onNode(label) {
                def skips = properties.containsKey('skipDefaultCheckout') || optionsOf(stage).any { it.name == 'skipDefaultCheckout' }
                if (!skips) { steps.call('checkout', [[auto: true, scm: true]]) }
                answer = body.call()
            }
        }
        steps.call('retry', [[count: attempts, conditions: [[symbol: 'agent']]], once])
        answer
    }

    private def inEnvironment(Stage stage, Closure body) {
        if (stage.environment == null) { return body.call() }
        def reader = SectionReader.read(stage.environment, new EnvironmentReader(script))
        def inner = { world.around([variables: reader.variables], body) }
        if (!reader.credentialsIds) { return inner.call() }
        def bindings = reader.credentialsIds.collect { name, id -> [symbol: 'string', credentialsId: id, variable: name] }
        steps.call('withCredentials', [bindings, inner])
    }

    private void content(Stage stage) {
        inEnvironment(stage) {
            if (stage.parallel) {
                def branches = stage.parallel.collectEntries { child -> [child.name, { single(child, null) }] }
                steps.call('parallel', [branches])
                return
            }
            Throwable error = null
            if (stage.stages) {
                error = sequence(stage.stages, null, null)
            } else {
                try { perform(stage.steps) } catch (Throwable thrown) { failed(thrown); error = thrown }
            }
            error = post(stage, error)
            if (error != null) { throw error }
        }
    }

    private void perform(Closure closure) {
        def steps = closure.rehydrate(script, script, script)
        steps.resolveStrategy = Closure.DELEGATE_ONLY
        try {
            steps.call()
        } catch (MissingContextVariableException error) {
            world.problem("stage '${world.stages ? world.stages.last() : 'post'}': ${error.message}")
            throw error
        }
    }

    private Throwable post(Stage stage, Throwable error) {
        CONDITIONS.each { condition ->
            def closure = stage.post[condition]
            if (closure == null || !satisfied(condition, error)) { return }
            world.log(event: 'post', of: stage.name, condition: condition, held: world.nodes.size())
            try {
                perform(closure)
            } catch (Throwable thrown) {
                world.log(event: 'post-error', of: stage.name, condition: condition, error: thrown.toString())
                failed(thrown)
                error = error ?: thrown
            }
        }
        error
    }

    private boolean satisfied(String condition, Throwable error) {
        def now = (world.result ?: Result.SUCCESS).combine(error == null ? null : BlockSteps.resultOf(error))
        def before = Result.fromString((world.scenario.previous ?: 'SUCCESS') as String)
        switch (condition) {
            case ['always', 'cleanup']: return true
            case 'changed': return now != before
            case 'fixed': return now == Result.SUCCESS && before in [Result.FAILURE, Result.UNSTABLE]
            case 'regression': return now.isWorseThan(before)
            case 'unsuccessful': return now != Result.SUCCESS
            case 'notBuilt': return now == Result.NOT_BUILT
            default: return now.toString() == condition.toUpperCase()
        }
    }
}
