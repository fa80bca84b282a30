package harness

/** Evaluates `when`. Nested conditions are recorded first, then evaluated as far as needed. */
class When {
    static final List<String> FLAGS = ['beforeAgent', 'beforeInput', 'beforeOptions']
    private static final List<String> CHANGE_KEYS = ['id', 'target', 'branch', 'fork', 'url', 'title', 'author']
    final JenkinsScript script
    final World world

    When(JenkinsScript script, World world) {
        this.script = script
        this.world = world
    }

    /** Which of beforeAgent, beforeInput and beforeOptions is set. */
    Set<String> flags(Closure when) {
        if (when == null) { return [] as Set }
        def calls = SectionReader.read(when, new Recorder(script)).calls
        calls.findAll { it.name in FLAGS && it.value == true }*.name as Set
    }

    /** Outcome, and one text a condition that was evaluated. */
    List evaluate(Closure when) {
        def seen = []
        def calls = SectionReader.read(when, new Recorder(script)).calls.findAll { !(it.name in FLAGS) }
        [calls.every { holds(it, seen) }, seen]
    }

    private boolean holds(Map call, List seen) {
        boolean outcome
        switch (call.name) {
            case 'allOf': outcome = children(call).every { holds(it, seen) }; break
            case 'anyOf': outcome = children(call).any { holds(it, seen) }; break
            case 'not': outcome = !holds(children(call)[0], seen); break
            default: outcome = single(call)
        }
        seen << "${call.name}${describe(call)}: ${outcome}".toString()
        outcome
    }

    private List<Map> children(Map call) { SectionReader.read(call.body as Closure, new Recorder(script)).calls }

    private static String describe(Map call) { call.value != null ? " ${call.value}" : call.named ? " ${call.named}" : '' }

    private boolean single(Map call) {
        def environment = world.environment()
        switch (call.name) {
            case 'branch':
                return environment.BRANCH_NAME && compare(call, 'pattern', environment.BRANCH_NAME)
            case 'tag':
                return environment.TAG_NAME && (call.value == null && !call.named || compare(call, 'pattern', environment.TAG_NAME))
            case 'buildingTag':
                return environment.TAG_NAME
            case 'changeRequest':
                return environment.CHANGE_ID && CHANGE_KEYS.every { key ->
                    !call.named.containsKey(key) || compare(call, key, environment["CHANGE_${key.toUpperCase()}".toString()] ?: '')
                }
            case 'environment':
                return environment[call.named.name as String] == call.named.value as String
            case 'whenEquals':
                return call.named.expected == call.named.actual
            case 'expression':
                def closure = (call.body as Closure).rehydrate(script, script, script)
                closure.resolveStrategy = Closure.DELEGATE_ONLY
                return closure.call()
            case 'triggeredBy':
                return (world.scenario.causes ?: []).contains((call.named.cause ?: call.value) as String)
            case 'isRestartedRun':
                return world.scenario.restart != null
        }
        world.problem("when: the harness does not know '${call.name}'")
        false
    }

    private static boolean compare(Map call, String key, String actual) {
        def pattern = (call.named[key] ?: call.value) as String
        switch ((call.named.comparator ?: (key == 'pattern' ? 'GLOB' : 'EQUALS')) as String) {
            case 'REGEXP': return actual ==~ pattern
            case 'EQUALS': return actual == pattern
            default: return Globs.matches(pattern, actual)
        }
    }
}
