package harness

import hudson.AbortException
import hudson.model.Result
import java.util.concurrent.TimeUnit
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException

/** `sh` and `input`: what the scenario answers, or what a real shell does. */
class CommandSteps {
    final World world

    CommandSteps(World world) { this.world = world }

    def do_sh(Map named, value, Closure body) {
        def node = world.node('sh')
        def given = named.containsKey('script') ? named.script : value
        String command = given
        def event = [event: 'sh', command: command, gstring: given instanceof GString,
                     values: given instanceof GString ? given.values.collect { it as String } : [],
                     node: node.number, environment: world.environment(), credentials: world.credentials(),
                     files: world.files('sh', 'build/**'), locks: world.layers.findAll { it.lock }*.lock,
                     timeouts: world.timeouts.collect { it.subMap(['scope', 'minutes']) }]
        world.log(event)
        def rule = node.lost ? [lost: true] : world.answer(command)
        if (rule.lost) {
            node.gone = true
            world.events[-1].exit = 'lost'
            throw FlowInterruptedException.of(Result.ABORTED, 'agent')
        }
        if (rule.hang) { world.hang("sh ${command}") }
        if (rule.abort) {
            node.gone = rule.gone as boolean
            throw FlowInterruptedException.of(Result.ABORTED, 'user')
        }
        def answer = world.scenario.shell ? really(command, node) : [exit: 0]
        if (answer.exit == 0) { answer = canned(rule) }
        world.events[-1].exit = answer.exit
        if (answer.missing) { world.events[-1].missing = answer.missing }
        if (named.returnStatus) { return answer.exit }
        if (answer.exit != 0) { throw new AbortException("script returned exit code ${answer.exit}") }
        named.returnStdout ? answer.stdout : null
    }

    /** A command whose inputs are not in the workspace fails as the real one would. */
    private Map canned(Map rule) {
        def environment = world.environment()
        def missing = (rule.reads ?: []).collect { rule.fill(it) }.findAll { !world.files('sh', it) }
        if (missing) { return [exit: 2, stdout: '', missing: missing] }
        int exit = (rule.exit ?: 0) as int
        if (exit == 0 || rule.always_writes) {
            (rule.writes ?: [:]).each { path, text ->
                def place = rule.fill(path as String).replaceAll(/\$([A-Z_]+)/) { all, name -> environment[name] ?: '' }
                world.node('sh').disk.write(world.path(place), rule.fill(text as String))
            }
        }
        [exit: exit, stdout: rule.fill ? rule.fill((rule.stdout ?: '') as String) : '']
    }

    /** The text in a real shell, started as Jenkins starts it, with the step's environment and no other. */
    private Map really(String command, Map node) {
        def file = world.directory.resolve("script-${world.events.size()}.sh")
        java.nio.file.Files.createDirectories(world.directory)
        file.toFile().setText(command, 'UTF-8')
        def arguments = command.startsWith('#!') ? ['bash', file.toString()] : ['bash', '-e', file.toString()]
        def builder = new ProcessBuilder(arguments).directory(new File(node.workspace as String)).redirectErrorStream(true)
        builder.redirectInput(ProcessBuilder.Redirect.from(new File('/dev/null')))
        builder.environment().clear()
        builder.environment().putAll(world.environment())
        def process = builder.start()
        def output = process.inputStream.getText('UTF-8')
        if (!process.waitFor(60, TimeUnit.SECONDS)) {
            process.destroyForcibly()
            world.problem("the shell did not end: ${command}")
        }
        world.events[-1].output = output
        [exit: process.exitValue(), stdout: output]
    }

    def do_input(Map named, value, Closure body) {
        def message = (named.message ?: value) as String
        def event = [event: 'input', message: message, ok: named.ok as String, submitter: named.submitter as String,
                     submitterParameter: named.submitterParameter as String, held: world.nodes.size(),
                     locks: world.layers.count { it.lock }, timeouts: world.timeouts.collect { it.subMap(['scope', 'minutes']) }]
        world.log(event)
        def answer = world.scenario.input as Map
        if (answer == null) { world.hang("input '${message}'") }
        def allowed = (named.submitter ?: '').split(',').collect { it.trim() }.findAll { it }
        def who = [answer.by] + (answer.groups ?: [])
        if (allowed && !who.any { it in allowed }) { world.hang("input '${message}': ${answer.by} may not answer") }
        if (answer.abort) { throw FlowInterruptedException.of(Result.ABORTED, 'input') }
        def values = (named.parameters ?: []).collectEntries { [it.name, (answer.parameters ?: [:])[it.name] ?: it.defaultValue] }
        if (named.submitterParameter) { values[named.submitterParameter] = answer.by }
        values.size() == 0 ? null : values.size() == 1 ? values.values().first() : values
    }
}
