package harness

import hudson.AbortException
import hudson.model.Result
import java.nio.file.Path
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.jenkinsci.plugins.workflow.steps.MissingContextVariableException

/**
 * What is around the pipeline while one scenario runs: agents, environment, files, stashes, people.
 * It is a model of a controller, not a controller: no sandbox, no CPS, no plugin's own code, and
 * branches of `parallel` run one after the other.
 */
class World {
    final Map scenario
    final List<Map> events = []
    /** What a real controller would never end or the harness does not know: a test fails on any. */
    final List<String> problems = []
    final Path directory
    /** Name -> relative path -> text. They outlive a build that says preserveStashes(), for `restart from stage`. */
    Map<String, Map<String, String>> stashes = [:]
    Result result
    Map parameters = [:]
    final Map<String, String> globalEnvironment = [:]
    /** Around the step that runs: variables, which of them are secrets, and of which credentials. */
    final List<Map> layers = []
    final List<Map> nodes = []
    final List<String> stages = []
    final List<String> branches = []
    final List<Map> timeouts = []
    String displayName
    String description = null
    Set<String> plugins
    private int allocated = 0
    private final Map<Integer, Integer> used = [:]

    World(Map scenario, Path directory) {
        this.scenario = scenario
        this.directory = directory
        displayName = "#${scenario.number ?: 1}"
        plugins = (scenario.plugins == null ? Plugins.ALL : scenario.plugins) as Set
    }

    void log(Map event) {
        events << ([stage: stages ? stages.last() : null, branch: branches ? branches.last() : null] + event)
    }

    void worsen(value) {
        def next = value instanceof Result ? value : Result.fromString(value as String)
        result = result == null ? next : result.combine(next)
    }

    String problem(String text) {
        problems << text
        text
    }

    // Environment ---------------------------------------------------------------------

    Map<String, String> environment() {
        def all = [:]
        all.putAll((scenario.env ?: [:]) as Map)
        if (!scenario.first_build) { parameters.each { k, v -> all[k] = v as String } }
        all.putAll(globalEnvironment)
        layers.each { layer -> layer.variables.each { k, v -> put(all, k as String, v as String) } }
        all as Map<String, String>
    }

    /** NAME+ANY=value goes before what NAME holds, as EnvVars.override does. */
    private static void put(Map all, String name, String value) {
        int plus = name.indexOf('+')
        if (plus > 0) {
            def real = name.substring(0, plus)
            all[real] = all[real] ? "${value}:${all[real]}".toString() : value
        } else {
            all[name] = value
        }
    }

    Map<String, String> credentials() {
        def bound = [:]
        layers.each { layer -> layer.variables.each { k, v -> bound.remove(k) }; bound.putAll(layer.credentials ?: [:]) }
        bound
    }

    def around(Map layer, Closure body) {
        layers << ([variables: [:], credentials: [:]] + layer)
        try { body.call() } finally { layers.removeAt(layers.size() - 1) }
    }

    // Agents --------------------------------------------------------------------------

    def onNode(String label, Closure body) {
        def have = (scenario.agents ?: [:]) as Map
        int free = (have.containsKey(label ?: '') ? have[label ?: ''] as int : 1000) - nodes.count { it.label == label }
        if (free < 1) { hang("no agent with label '${label}' is free") }
        int number = ++allocated
        def workspace = "${directory}/agent-${number}/workspace".toString()
        def temporary = workspace + '@tmp'
        def disk = new Disk(scenario.shell as boolean)
        [workspace, temporary].each { disk.clear(it) }
        def node = [number: number, label: label, disk: disk, workspace: workspace, temporary: temporary, lost: number in (scenario.lost ?: [])]
        nodes << node
        log(event: 'agent', label: label, node: number, held: nodes.size())
        def own = (scenario.node_env ?: [PATH: '/usr/bin:/bin', HOME: directory.toString()]) as Map
        def variables = own + [NODE_NAME: "agent-${number}".toString(), NODE_LABELS: label ?: '', EXECUTOR_NUMBER: '0',
                               WORKSPACE: workspace, WORKSPACE_TMP: temporary]
        try {
            around([variables: variables], body)
        } finally {
            nodes.removeAt(nodes.size() - 1)
            log(event: 'agent-end', label: label, node: number, gone: node.gone ?: false,
                left: disk.list(workspace), left_in_tmp: disk.list(temporary))
        }
    }

    Map node(String step) {
        if (!nodes) { throw new MissingContextVariableException(step) }
        if (nodes.last().gone) { throw FlowInterruptedException.of(Result.ABORTED, 'agent') }
        nodes.last()
    }

    /** The whole path of one that a step was given. */
    String path(String given) {
        def node = node('a step with a file')
        given.startsWith('/') ? given : "${node.workspace}/${given}".toString()
    }

    /** Files of the workspace that match, relative to it. */
    List<String> files(String step, includes, excludes = null) {
        def node = node(step)
        node.disk.list(node.workspace, includes as String, excludes as String)
    }

    // Time ----------------------------------------------------------------------------

    /** Something never ends: the time-out that is nearest in time ends it, or nothing does. */
    void hang(String what) {
        if (!timeouts) {
            problem("hangs for ever: ${what}")
            throw FlowInterruptedException.of(Result.ABORTED, 'user')
        }
        int nearest = (0..<timeouts.size()).min { timeouts[it].minutes }
        log(event: 'timeout', minutes: timeouts[nearest].minutes, what: what)
        throw FlowInterruptedException.of(Result.ABORTED, 'timeout', nearest)
    }

    // Commands ------------------------------------------------------------------------

    /** The first rule whose pattern is found in the command, after variables were put in. */
    Map answer(String command) {
        def environment = environment()
        def expanded = command.replaceAll(/"?\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?"?/) { all, name ->
            environment[name] ?: ''
        }
        def rules = (scenario.commands ?: []) as List
        for (int i = 0; i < rules.size(); i++) {
            def rule = rules[i] as Map
            def matcher = expanded =~ (rule.match as String)
            boolean here = matcher.find() && (rule.stage == null || rule.stage == (stages ? stages.last() : null))
            if (here && (rule.times == null || (used[i] ?: 0) < (rule.times as int))) {
                used[i] = (used[i] ?: 0) + 1
                def groups = (0..matcher.groupCount()).collect { matcher.group(it) ?: '' }
                return rule + [fill: { String text -> text.replaceAll(/\$(\d)/) { all, n -> groups[n as int] } }]
            }
        }
        problem("no answer for the command: ${expanded}")
        [:]
    }

    static AbortException failed(String message) { new AbortException(message) }
}
