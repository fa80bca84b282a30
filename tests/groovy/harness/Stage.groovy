package harness

/** The Declarative model: sections are kept as closures and evaluated when the engine would. */
class Stage {
    String name
    Stage parent
    def agent
    Closure environment, options, input, when, steps
    Map<String, Closure> post = [:]
    List<Stage> stages, parallel
    boolean failFast = false

    String toString() { name }
}
