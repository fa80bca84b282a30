package harness

/** Reads the closure of `pipeline` or of `stage` into a model. Names that are none of its own are the script's. */
class SectionReader {
    final JenkinsScript script
    final Stage target
    List<Closure> parameters = []

    SectionReader(JenkinsScript script, Stage target) {
        this.script = script
        this.target = target
    }

    static <T> T read(Closure closure, T delegate) {
        // Groovy asks the owners of a closure, too, whatever its strategy: it gets another owner.
        def copy = closure.rehydrate(delegate, delegate, delegate)
        copy.resolveStrategy = Closure.DELEGATE_ONLY
        copy.call()
        delegate
    }

    void agent(given) { target.agent = given }

    void agent(Closure given) { target.agent = given }

    void environment(Closure given) { target.environment = given }

    void options(Closure given) { target.options = given }

    void input(Closure given) { target.input = given }

    void input(String given) { target.input = { message given } }

    void when(Closure given) { target.when = given }

    void steps(Closure given) { target.steps = given }

    void parameters(Closure given) { parameters << given }

    void failFast(boolean given) { target.failFast = given }

    void triggers(Closure given) {}

    void tools(Closure given) {}

    void post(Closure given) { target.post = read(given, new Recorder(script)).calls.collectEntries { [it.name, it.body] } }

    void stages(Closure given) { target.stages = children(given) }

    void parallel(Closure given) { target.parallel = children(given) }

    private List<Stage> children(Closure given) {
        read(given, new Recorder(script)).calls.collect { call ->
            def child = new Stage(name: call.value as String, parent: target)
            read(call.body as Closure, new SectionReader(script, child))
            child
        }
    }

    Object propertyMissing(String name) { name in ['none', 'any'] ? name : script.getProperty(name) }
}
