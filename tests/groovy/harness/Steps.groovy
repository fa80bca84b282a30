package harness

import hudson.AbortException
import java.nio.file.Files

/** Finds the step of a name; a step whose plugin is not installed does not exist. */
class Steps {
    final World world
    final JenkinsScript script
    private final List families
    /** Method -> the family that has it. */
    private static final Map<String, Integer> FAMILY = [:]

    Steps(World world, JenkinsScript script) {
        this.world = world
        this.script = script
        families = [new BlockSteps(world, script), new CommandSteps(world), new PlainSteps(world)]
    }

    def call(String name, List args) {
        def real = [sleepStep: 'sleep', echoStep: 'echo'][name] ?: name
        if (!Plugins.brings(world.plugins, real)) { throw missing(real) }
        def method = "do_${real}".toString()
        if (!FAMILY) { families.eachWithIndex { one, index -> one.class.methods*.name.each { FAMILY[it] = index } } }
        def family = FAMILY.containsKey(method) ? families[FAMILY[method]] : null
        if (family == null) {
            world.problem("unknown step: ${real}")
            throw missing(real)
        }
        def list = new ArrayList(args)
        Closure body = list && list.last() instanceof Closure ? list.remove(list.size() - 1) as Closure : null
        Map named = list && list[0] instanceof Map ? list.remove(0) as Map : [:]
        family."${method}"(named, list ? list[0] : null, body)
    }

    private static NoSuchMethodError missing(String name) {
        new NoSuchMethodError("No such DSL method '${name}' found among steps")
    }
}
